import Decoder
import Foundation
import JSON
import ModelFiles
import Tokenization

/// A model as far as a plan needs it: its shape. Weights need not be there.
struct PlannedModel {
  var configuration: DecoderConfiguration
  /// The tokenizer, or why there is none.
  var tokenizer: Result<Tokenizer, any Error>

  /// - Parameter path: a folder with config.json (and tokenizer.json, for the data), config.json itself, or a GGUF file.
  init(path: String) throws {
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else {
      throw PlanError(
        "\(path): no such file or folder; a plan needs a folder with the model's config.json, or a GGUF file")
    }
    let isJSON = path.hasSuffix(".json")
    guard isFolder.boolValue || isJSON else {
      let file = try GGUFFile(path: path)
      configuration = try GGUFModel(file).configuration
      tokenizer = Result { try Tokenizer(gguf: GGUFVocabulary(file)) }
      return
    }
    let folder = isJSON ? (path as NSString).deletingLastPathComponent : path
    let file = isJSON ? path : path + "/config.json"
    let bytes: [UInt8]
    do { bytes = try ReadableFile.contents(file, limit: ModelSource.configurationLimit) } catch {
      throw PlanError("\(error); a plan needs the model's config.json")
    }
    do { configuration = try DecoderConfiguration(huggingFace: JSONValue(parsing: bytes)) } catch {
      throw PlanError("\(file): \(error)")
    }
    tokenizer = Result { try Tokenizer(directory: folder.isEmpty ? "." : folder) }
  }
}
