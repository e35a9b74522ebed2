import Checkpoints
import Decoder
import JSON
import ModelFiles
import Preferences
import Tokenization
import Training

extension Fuzz {
  static let targets: [String: @Sendable ([UInt8]) throws -> Void] = [
    "json": json, "safetensors": safetensors, "gguf": gguf, "tokenizer": tokenizer, "config": config, "yaml": yaml,
    "rows": rows, "manifest": manifest,
  ]

  /// What is read must be written so that it reads the same.
  private static func json(_ bytes: [UInt8]) throws {
    let value = try JSONValue(parsing: bytes)
    let text = value.serialized()
    precondition((try? JSONValue(parsing: text))?.serialized() == text, "not the same after writing and reading")
  }

  private static func safetensors(_ bytes: [UInt8]) throws {
    try readAll(SafetensorsFile(path: file("model.safetensors", bytes)))
  }

  private static func gguf(_ bytes: [UInt8]) throws {
    let opened = try GGUFFile(path: file("model.gguf", bytes))
    try? readAll(opened)
    _ = try? GGUFModel(opened)
    try exercise(Tokenizer(gguf: GGUFVocabulary(opened)))
  }

  private static func readAll(_ source: some TensorSource) throws {
    for tensor in source.tensors where tensor.count <= 1 << 16 {
      var values = [Float](repeating: 0, count: tensor.count)
      try values.withUnsafeMutableBufferPointer { try source.read(tensor.name, into: $0) }
    }
  }

  private static func tokenizer(_ bytes: [UInt8]) throws {
    _ = file("tokenizer.json", bytes)
    try exercise(Tokenizer(directory: folder))
  }

  private static let text = "Hello, wörld!  12345 \n\n\u{1F600} <s>▁don't\te\u{301}\u{E9}"

  private static func exercise(_ tokenizer: Tokenizer) throws {
    let ids = try tokenizer.encode(text, addSpecialTokens: true)
    precondition(ids.allSatisfy { (0..<tokenizer.vocabularySize).contains(Int($0)) }, "an id outside the vocabulary")
    _ = tokenizer.decode(ids)
    var stream = tokenizer.makeStreamDecoder()
    for id in ids { _ = stream.append(id) }
    _ = stream.finish()
  }

  private static func config(_ bytes: [UInt8]) throws {
    _ = try DecoderConfiguration(huggingFace: JSONValue(parsing: bytes))
  }

  private static func yaml(_ bytes: [UInt8]) throws {
    _ = try TrainingConfiguration(yaml: String(decoding: bytes, as: UTF8.self), location: "run.yaml", for: .bench)
  }

  /// The first byte chooses the name, which tells lines from arrays.
  private static func rows(_ bytes: [UInt8]) throws {
    let name = (bytes.first ?? 0) & 1 == 0 ? "rows.jsonl" : "rows.json"
    _ = try PreferenceReader(files: [file(name, Array(bytes.dropFirst()))], rowLimit: 1 << 16).examples()
  }

  private static func manifest(_ bytes: [UInt8]) throws {
    _ = file("checkpoint.json", bytes)
    _ = try Checkpoint(directory: folder)
  }
}
