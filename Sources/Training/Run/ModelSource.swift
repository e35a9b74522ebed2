package import Decoder
import Foundation
package import JSON
package import ModelFiles
package import Tokenization

/// A model as it lies on disk: a Hugging Face folder or a GGUF file.
package struct ModelSource {
  package let path: String
  package let configuration: DecoderConfiguration
  package let tensors: any TensorSource
  package let tokenizer: Tokenizer
  /// config.json as the trained model will carry it.
  package let configurationJSON: JSONValue
  /// Further files of the folder that belong beside the trained model, as they are.
  private let companions: [(name: String, bytes: [UInt8])]

  /// - Throws: errors that name the file and what is missing in it.
  package init(path: String) throws {
    self.path = path
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else {
      throw ModelSourceError(
        "\(path): no such file or folder; a model is a Hugging Face folder or a GGUF file on this machine (models are not downloaded)"
      )
    }
    if isFolder.boolValue {
      let bytes = try Self.read(path + "/config.json")
      var json: JSONValue
      do { json = try JSONValue(parsing: bytes) } catch { throw ModelSourceError("\(path)/config.json: \(error)") }
      do { configuration = try DecoderConfiguration(huggingFace: json) } catch {
        throw ModelSourceError("\(path)/\(error)")
      }
      tensors = try SafetensorsFolder(directory: path)
      tokenizer = try Tokenizer(directory: path)
      if var object = json.object {
        // What is saved is fp32, whatever was read.
        for key in ["torch_dtype", "dtype"] where object[key] != nil { object[key] = "float32" }
        // Names Python code of the model's repository, which is neither needed nor copied.
        object["auto_map"] = nil
        json = .object(object)
      }
      configurationJSON = json
      companions = try ["generation_config.json"].compactMap { name in
        try ReadableFile.contents(ifPresent: "\(path)/\(name)", limit: Self.configurationLimit).map { (name, $0) }
      }
    } else {
      let file = try GGUFFile(path: path)
      let model = try GGUFModel(file)
      configuration = model.configuration
      tensors = model
      tokenizer = try Tokenizer(gguf: GGUFVocabulary(file))
      configurationJSON = model.configuration.huggingFaceJSON(
        bosTokenID: tokenizer.bosTokenID, eosTokenID: tokenizer.eosTokenID)
      companions = []
    }
    if tokenizer.vocabularySize > configuration.vocabSize {
      throw ModelSourceError(
        "\(path): the tokenizer has \(tokenizer.vocabularySize) tokens, the model's vocabulary \(configuration.vocabSize); they do not belong together"
      )
    }
  }

  /// Everything of a Hugging Face folder but the weights.
  package func files() throws -> [(name: String, bytes: [UInt8])] {
    let config = Array((configurationJSON.serialized(indent: 2) + "\n").utf8)
    return [("config.json", config)] + companions + (try tokenizer.files())
  }

  /// The paths of a model's configuration, weights and tokenizer, in order; empty when there is no model at `path`.
  static func filesRead(at path: String) -> [String] {
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else { return [] }
    guard isFolder.boolValue else { return [path] }
    // Not every file beside them: where a run writes its results, some change all the time.
    let known: Set = [
      "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
      "chat_template.jinja", SafetensorsFolder.indexFile,
    ]
    let names = (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
    return names.filter { known.contains($0) || $0.hasSuffix(".safetensors") && !$0.contains("\n") }.sorted()
      .map { "\(path)/\($0)" }
  }

  /// Bytes of config.json and generation_config.json; real ones have a few thousand.
  static let configurationLimit = 16 << 20

  private static func read(_ path: String) throws -> [UInt8] {
    do { return try ReadableFile.contents(path, limit: configurationLimit) } catch {
      throw ModelSourceError(
        "\(error); a Hugging Face folder holds config.json, *.safetensors and tokenizer.json")
    }
  }
}

/// Why a model cannot be used.
package struct ModelSourceError: Error, CustomStringConvertible, Equatable {
  package var description: String
  init(_ description: String) { self.description = description }
}

extension GGUFVocabulary {
  /// The tokenizer in the file's metadata (`tokenizer.ggml.*`).
  package init(_ file: GGUFFile) throws {
    func value(_ key: String) -> GGUFValue? { file["tokenizer.ggml.\(key)"] }
    guard let model = value("model")?.string, let tokens = value("tokens")?.strings else {
      throw ModelSourceError(
        "\(file.path): the metadata holds no tokenizer (tokenizer.ggml.model, tokenizer.ggml.tokens)")
    }
    self.init(
      model: model, pre: value("pre")?.string, tokens: tokens, scores: value("scores")?.floats ?? [],
      tokenTypes: value("token_type")?.integers ?? [],
      merges: (value("merges")?.strings ?? []).map { String(decoding: $0, as: UTF8.self) },
      bosTokenID: value("bos_token_id")?.integer, eosTokenID: value("eos_token_id")?.integer,
      unknownTokenID: value("unknown_token_id")?.integer, paddingTokenID: value("padding_token_id")?.integer,
      addBosToken: value("add_bos_token")?.bool, addEosToken: value("add_eos_token")?.bool,
      addSpacePrefix: value("add_space_prefix")?.bool, chatTemplate: file["tokenizer.chat_template"]?.string,
      file: file.path)
  }
}
