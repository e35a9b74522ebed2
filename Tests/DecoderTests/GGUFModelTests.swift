import Decoder
import Foundation
import ModelFiles
import Packing
import Testing

@Suite struct GGUFModelTests {
  /// Writes F32 tensors and metadata as a GGUF file, version 3.
  private struct Writer {
    var metadata: [(key: String, value: Value)] = []
    var tensors: [(name: String, shape: [Int], values: [Float])] = []

    enum Value {
      case integer(UInt32)
      case float(Float)
      case string(String)
      case integers([UInt32])
    }

    private static func bytes(_ value: some FixedWidthInteger) -> [UInt8] {
      withUnsafeBytes(of: value.littleEndian, Array.init)
    }

    private static func bytes(_ string: String) -> [UInt8] { bytes(UInt64(string.utf8.count)) + Array(string.utf8) }

    func file() -> [UInt8] {
      var head = Array("GGUF".utf8) + Self.bytes(UInt32(3))
      head += Self.bytes(UInt64(tensors.count)) + Self.bytes(UInt64(metadata.count))
      for (key, value) in metadata {
        head += Self.bytes(key)
        switch value {
        case .integer(let value): head += Self.bytes(UInt32(4)) + Self.bytes(value)
        case .float(let value): head += Self.bytes(UInt32(6)) + Self.bytes(value.bitPattern)
        case .string(let value): head += Self.bytes(UInt32(8)) + Self.bytes(value)
        case .integers(let values):
          head += Self.bytes(UInt32(9)) + Self.bytes(UInt32(4)) + Self.bytes(UInt64(values.count))
          for value in values { head += Self.bytes(value) }
        }
      }
      var data: [UInt8] = []
      for (name, shape, values) in tensors {
        data += [UInt8](repeating: 0, count: (32 - data.count % 32) % 32)
        head += Self.bytes(name) + Self.bytes(UInt32(shape.count))
        for dimension in shape.reversed() { head += Self.bytes(UInt64(dimension)) }
        head += Self.bytes(UInt32(0)) + Self.bytes(UInt64(data.count))
        for value in values { data += Self.bytes(value.bitPattern) }
      }
      return head + [UInt8](repeating: 0, count: (32 - head.count % 32) % 32) + data
    }
  }

  private static func open<Result>(_ writer: Writer, _ body: (GGUFFile) throws -> Result) throws -> Result {
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("orpo-dist-\(UUID().uuidString).gguf").path
    try Data(writer.file()).write(to: URL(fileURLWithPath: path))
    defer { try? FileManager.default.removeItem(atPath: path) }
    return try body(try GGUFFile(path: path))
  }

  private static let names = [
    ("model.embed_tokens", "token_embd"), ("model.norm", "output_norm"), ("lm_head", "output"),
    ("model.layers.", "blk."),
    ("input_layernorm", "attn_norm"), ("self_attn.q_proj", "attn_q"), ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"), ("self_attn.o_proj", "attn_output"), ("post_attention_layernorm", "ffn_norm"),
    ("mlp.gate_proj", "ffn_gate"), ("mlp.up_proj", "ffn_up"), ("mlp.down_proj", "ffn_down"),
  ]

  /// Row 2j + i of a head in the file is row i headDim/2 + j in Hugging Face's order.
  private static func permuted(_ values: [Float], headDim: Int, columns: Int) -> [Float] {
    (0..<values.count / columns).flatMap { row in
      let (head, inside) = (row / headDim, row % headDim)
      let source = head * headDim + inside % 2 * (headDim / 2) + inside / 2
      return values[(source * columns)..<((source + 1) * columns)]
    }
  }

  /// The golden model as llama.cpp's converter would write it.
  private static func writer(_ model: GoldenModel) throws -> Writer {
    let c = model.configuration
    var writer = Writer()
    writer.metadata = [
      ("general.architecture", .string("llama")), ("llama.embedding_length", .integer(UInt32(c.hiddenSize))),
      ("llama.attention.head_count", .integer(UInt32(c.numAttentionHeads))),
      ("llama.attention.head_count_kv", .integer(UInt32(c.numKeyValueHeads))),
      ("llama.attention.key_length", .integer(UInt32(c.headDim))),
      ("llama.rope.dimension_count", .integer(UInt32(c.headDim))),
      ("llama.feed_forward_length", .integer(UInt32(c.intermediateSize))),
      ("llama.block_count", .integer(UInt32(c.numHiddenLayers))),
      ("llama.context_length", .integer(UInt32(c.maxPositionEmbeddings))),
      ("llama.attention.layer_norm_rms_epsilon", .float(c.rmsNormEps)),
      ("llama.rope.freq_base", .float(Float(c.rope.theta))),
    ]
    if let window = c.slidingWindow {
      writer.metadata.append(("llama.attention.sliding_window", .integer(UInt32(window))))
    }
    if let pad = c.padTokenID { writer.metadata.append(("tokenizer.ggml.padding_token_id", .integer(UInt32(pad)))) }
    switch c.rope.kind {
    case .linear(let factor):
      writer.metadata += [
        ("llama.rope.scaling.type", .string("linear")), ("llama.rope.scaling.factor", .float(Float(factor))),
      ]
    case .yarn(let yarn):
      writer.metadata += [
        ("llama.rope.scaling.type", .string("yarn")), ("llama.rope.scaling.factor", .float(Float(yarn.factor))),
        ("llama.rope.scaling.original_context_length", .integer(UInt32(yarn.originalMaxPositions))),
      ]
    default: break
    }
    for info in model.weights.tensors {
      var values = [Float](repeating: 0, count: info.count)
      try values.withUnsafeMutableBufferPointer { try model.weights.read(info.name, into: $0) }
      let name = names.reduce(info.name) { $0.replacingOccurrences(of: $1.0, with: $1.1) }
      if name.contains("attn_q.") || name.contains("attn_k.") {
        values = permuted(values, headDim: c.headDim, columns: info.shape.count == 2 ? info.shape[1] : 1)
      }
      writer.tensors.append((name, info.shape, values))
    }
    return writer
  }

  @Test(arguments: ["mha-tied", "gqa-bias", "rope-linear", "rope-yarn", "mistral-window"])
  func aGoldenModelInGGUFIsTheSameModel(name: String) throws {
    let golden = try GoldenModel(name)
    try Self.open(Self.writer(golden)) { file in
      let model = try GGUFModel(file)
      #expect(model.configuration == golden.configuration)
      #expect(Set(model.tensors.map(\.name)) == Set(golden.weights.tensors.map(\.name)))
      let packed = PackedPairs(golden.pairs)
      let parameters = try [golden.weights as any TensorSource, model].map { source in
        try withDecoder(golden.configuration, threads: 2) { decoder in
          try decoder.load(from: source)
          decoder.reserve(.init(rows: packed.rowCount, sequence: packed.longestSequence, training: false))
          var logps = [Float](repeating: .nan, count: packed.predictionCount)
          logps.withUnsafeMutableBufferPointer { decoder.forward(packed, logps: $0) }
          return (values: Array(decoder.parameters), logps: logps)
        }
      }
      #expect(parameters[0].values == parameters[1].values)
      #expect(parameters[0].logps == parameters[1].logps)
      let first = packed.pairs[0]
      let chosen = Array(parameters[1].logps[first.sharedPredictions] + parameters[1].logps[first.chosenPredictions])
      #expect(relativeDistance(chosen, try golden.tensor("logps.0.chosen")) < 1e-5)
    }
  }

  /// Llama 3's scaling is a tensor of divisors in these files.
  @Test(arguments: [8.0, 32])
  func frequencyFactorsOfLlama3AreRecognised(factor: Double) throws {
    try Self.open(Self.llama3(factor: factor)) { file in
      let expected = RotaryConfiguration.Kind.llama3(
        factor: factor, lowFreqFactor: 1, highFreqFactor: 4, originalMaxPositions: 8192)
      let rope = try GGUFModel(file).configuration.rope
      #expect(rope == RotaryConfiguration(theta: 500_000, kind: expected))
    }
  }

  @Test func otherFrequencyFactorsAreAnError() throws {
    try Self.open(Self.llama3(factor: 5)) { file in
      #expect(
        message { try GGUFModel(file) }.hasSuffix(
          "rope_freqs.weight is not one of Llama 3's published scalings (factor 8 or 32)"))
    }
  }

  private static func llama3(factor: Double) throws -> Writer {
    var writer = try writer(GoldenModel("rope-llama3"))
    let headDim = 64
    for (key, value) in [
      ("llama.attention.key_length", UInt32(headDim)), ("llama.rope.dimension_count", UInt32(headDim)),
    ] { set(&writer, key, .integer(value)) }
    set(&writer, "llama.rope.freq_base", .float(500_000))
    let factors = (0..<headDim / 2).map { index in
      let wavelength = 2 * Double.pi * pow(500_000, Double(2 * index) / Double(headDim))
      if wavelength < 8192.0 / 4 { return Float(1) }
      if wavelength > 8192 { return Float(factor) }
      let smooth = (8192 / wavelength - 1) / 3
      return Float(1 / ((1 - smooth) / factor + smooth))
    }
    writer.tensors.append(("rope_freqs.weight", [headDim / 2], factors))
    return writer
  }

  private static func set(_ writer: inout Writer, _ key: String, _ value: Writer.Value?) {
    writer.metadata.removeAll { $0.key == key }
    if let value { writer.metadata.append((key, value)) }
  }

  @Test(arguments: [
    "llama.embedding_length", "llama.attention.head_count", "llama.feed_forward_length", "llama.block_count",
    "llama.context_length",
  ])
  func missingMetadataIsNamed(key: String) throws {
    var writer = try Self.writer(GoldenModel("mha-tied"))
    Self.set(&writer, key, nil)
    try Self.open(writer) { file in
      #expect(message { try GGUFModel(file) } == "\(file.path): the metadata lacks \(key), a whole number")
    }
  }

  @Test func whatIsNotSupportedIsNamed() throws {
    let cases: [(key: String, value: Writer.Value, message: String)] = [
      (
        "general.architecture", .string("gpt2"),
        "general.architecture is \"gpt2\"; this version reads llama from GGUF files"
      ),
      ("llama.expert_count", .integer(8), "llama.expert_count is 8; mixtures of experts are not supported"),
      (
        "llama.rope.dimension_count", .integer(4),
        "llama.rope.dimension_count is 4 of 8; this version rotates whole heads only"
      ),
      (
        "llama.rope.scaling.type", .string("longrope"),
        "llama.rope.scaling.type is \"longrope\"; known are none, linear, yarn"
      ),
      (
        "llama.attention.head_count_kv", .integers([4, 2]),
        "llama.attention.head_count_kv has type array; this version expects one whole number"
      ),
      (
        "llama.attention.layer_norm_rms_epsilon", .string("small"),
        "llama.attention.layer_norm_rms_epsilon has type string; this version expects a number"
      ),
      ("llama.rope.freq_base", .float(-1), "llama.rope.freq_base is -1.0; expected more than 1"),
      ("llama.rope.scaling.factor", .float(0), "llama.rope.scaling.factor is 0.0; expected more than 0"),
    ]
    for (key, value, expected) in cases {
      var writer = try Self.writer(GoldenModel("mha-tied"))
      Self.set(&writer, key, value)
      try Self.open(writer) { file in #expect(message { try GGUFModel(file) } == "\(file.path): \(expected)") }
    }
  }

  @Test func anAttentionFactorOfYarnIsNotIgnored() throws {
    var writer = try Self.writer(GoldenModel("rope-yarn"))
    Self.set(&writer, "llama.rope.scaling.attn_factor", .float(1))
    try Self.open(writer) { file in #expect(message { try GGUFModel(file) } == "no error") }
    Self.set(&writer, "llama.rope.scaling.attn_factor", .float(1.5))
    try Self.open(writer) { file in
      #expect(
        message { try GGUFModel(file) }
          == "\(file.path): llama.rope.scaling.attn_factor is 1.5; this version supports 1 only")
    }
  }

  @Test func missingTensorsAreNamed() throws {
    let golden = try GoldenModel("mha-tied")
    var writer = try Self.writer(golden)
    writer.tensors.removeAll { $0.name == "blk.1.ffn_down.weight" }
    try Self.open(writer) { file in
      let model = try GGUFModel(file)
      try withDecoder(model.configuration) { decoder in
        #expect(
          message { try decoder.load(from: model) }
            == "the model lacks 1 tensor that its configuration asks for: model.layers.1.mlp.down_proj.weight")
      }
    }
    var deeper = golden.configuration
    deeper.numHiddenLayers = 3
    try withDecoder(deeper) { decoder in
      let found = message { try decoder.load(from: golden.weights) }
      #expect(found.hasPrefix("the model lacks 9 tensors that its configuration asks for: model.layers.2."))
      #expect(found.hasSuffix(", ..."))
    }
  }

  @Test func tensorsOfAnotherShapeAreNamed() throws {
    let golden = try GoldenModel("mha-tied")
    var wider = golden.configuration
    wider.intermediateSize += 8
    let expected = DecoderError.shape(
      tensor: "model.layers.1.mlp.down_proj.weight", expected: [wider.hiddenSize, wider.intermediateSize],
      found: [wider.hiddenSize, golden.configuration.intermediateSize])
    try withDecoder(wider) { decoder in #expect(throws: expected) { try decoder.load(from: golden.weights) } }
    #expect(
      expected.description
        == "tensor model.layers.1.mlp.down_proj.weight has shape [24, 40]; the model's configuration asks for [24, 48]")
  }

  private func message(_ body: () throws -> Any) -> String {
    do {
      _ = try body()
      return "no error"
    } catch { return "\(error)" }
  }
}
