/// Why a checkpoint could not be used or made; failures of the disk itself are `FileError`.
package enum CheckpointError: Error, CustomStringConvertible, Equatable {
  case noManifest(path: String)
  case invalidManifest(path: String, reason: String)
  case fileMissing(path: String)
  case wrongSize(path: String, expected: Int, found: Int)
  case wrongChecksum(path: String, expected: UInt64, found: UInt64)
  case noSuchFile(checkpoint: String, file: String)
  case invalidFileName(String)
  case fileTwice(String)
  case missingTensors(path: String, names: [String])
  case unexpectedTensors(path: String, names: [String])
  case shapeDiffers(path: String, tensor: String, expected: [Int], found: [Int])

  package var description: String {
    switch self {
    case .noManifest(let path):
      "\(path): there is no \(CheckpointManifest.fileName); saving it was interrupted, or another program wrote it"
    case .invalidManifest(let path, let reason): "\(path): \(reason)"
    case .fileMissing(let path): "\(path): the file is missing"
    case .wrongSize(let path, let expected, let found): "\(path): \(expected) bytes were written, found \(found)"
    case .wrongChecksum(let path, let expected, let found):
      "\(path): the contents have changed since they were written (checksum \(String(expected, radix: 16)), "
        + "found \(String(found, radix: 16)))"
    case .noSuchFile(let checkpoint, let file): "\(checkpoint): the checkpoint has no file '\(file)'"
    case .invalidFileName(let name): "a checkpoint cannot hold a file called '\(name)'"
    case .fileTwice(let name): "a checkpoint cannot hold two files called '\(name)'"
    case .missingTensors(let path, let names):
      "\(path): \(Self.list(names)) missing; the checkpoint belongs to another model"
    case .unexpectedTensors(let path, let names):
      "\(path): \(Self.list(names)) not part of this model; the checkpoint belongs to another model"
    case .shapeDiffers(let path, let tensor, let expected, let found):
      "\(path): tensor '\(tensor)' must have shape \(expected), found \(found); the checkpoint belongs to another model"
    }
  }

  private static func list(_ names: [String]) -> String {
    let shown = names.prefix(3).map { "'\($0)'" }.joined(separator: ", ")
    if names.count == 1 { return "tensor \(shown) is" }
    return names.count > 3 ? "\(names.count) tensors (\(shown), ...) are" : "tensors \(shown) are"
  }
}
