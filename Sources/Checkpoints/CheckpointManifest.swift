import JSON
import ModelFiles

/// `checkpoint.json`, written last into a checkpoint: its step and every file with size and checksum. A folder without
/// it is incomplete.
struct CheckpointManifest {
  static let fileName = "checkpoint.json"
  private static let version = 1
  private static let sizeLimit = 16 << 20

  var step: Int
  var files: [WrittenFile]

  init(step: Int, files: [WrittenFile]) {
    self.step = step
    self.files = files
  }

  /// Reads the manifest of a checkpoint folder.
  /// - Throws: `CheckpointError` naming what is wrong with it; `FileError`.
  init(directory: String) throws {
    let path = directory + "/" + Self.fileName
    func invalid(_ reason: String) -> CheckpointError { .invalidManifest(path: path, reason: reason) }
    guard Folders.exists(path) else { throw CheckpointError.noManifest(path: directory) }
    let file = try ReadableFile(path: path)
    guard file.size <= Self.sizeLimit else { throw invalid("\(file.size) bytes are too many for a list of files") }
    let json: JSONValue
    do {
      json = try JSONValue(parsing: file.contents())
    } catch let error as JSONError {
      throw invalid(error.description)
    }
    guard let version = json["version"]?.integer, version == Self.version else {
      throw invalid("'version' must be \(Self.version), found \(json["version"]?.serialized() ?? "nothing")")
    }
    guard let algorithm = json["checksum"]?.string, algorithm == StripeHash.name else {
      throw invalid("'checksum' must be \"\(StripeHash.name)\", found \(json["checksum"]?.serialized() ?? "nothing")")
    }
    guard let step = json["step"]?.integer, step >= 0 else { throw invalid("'step' must be an integer >= 0") }
    guard let entries = json["files"]?.array else { throw invalid("'files' must be a list") }
    self.step = step
    files = []
    for entry in entries {
      guard let name = entry["name"]?.string, SafetensorsFolder.isPlainName(name),
        let size = entry["size"]?.integer, size >= 0,
        let checksum = entry["checksum"]?.string.flatMap({ UInt64($0, radix: 16) })
      else { throw invalid("'files' needs a plain name, a size and a checksum each, found \(entry.serialized())") }
      files.append(WrittenFile(name: name, size: size, checksum: checksum))
    }
  }

  var bytes: [UInt8] {
    let entries = files.map { file -> JSONValue in
      ["name": .string(file.name), "size": .integer(file.size), "checksum": .string(String(file.checksum, radix: 16))]
    }
    let json: JSONValue = [
      "version": .integer(Self.version), "step": .integer(step), "checksum": .string(StripeHash.name),
      "files": .array(entries),
    ]
    return Array((json.serialized(indent: 2) + "\n").utf8)
  }
}
