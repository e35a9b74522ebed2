/// A defect of a safetensors file or of a folder of them: one case each, described with path, tensor, expected and
/// found.
package struct SafetensorsError: Error, CustomStringConvertible, Equatable {
  package enum Defect: Equatable, Sendable {
    // The file's frame.
    case tooShort(size: Int)
    case headerTooLarge(length: UInt64, limit: Int)
    case headerBeyondEnd(length: Int, size: Int)
    case headerNotJSON(reason: String)
    case headerNotObject(found: String)
    case metadataNotStrings(key: String?, found: String)
    // One tensor's entry.
    case entryNotObject(tensor: String, found: String)
    case unknownField(tensor: String, field: String)
    case invalidField(tensor: String, field: String, expected: String, found: String)
    case unknownDType(tensor: String, dtype: String)
    case offsetsReversed(tensor: String, begin: Int, end: Int)
    case sizeOverflow(tensor: String, shape: [Int])
    case misalignedSize(tensor: String, dtype: TensorDType, count: Int)
    case wrongSize(tensor: String, expected: Int, found: Int)
    // The tensors together.
    case overlap(tensor: String, begin: Int, expected: Int)
    case hole(tensor: String, begin: Int, expected: Int)
    case dataMissing(expected: Int, found: Int)
    case dataUnused(expected: Int, found: Int)
    // A folder.
    case noModel(found: String?)
    case indexNotJSON(reason: String)
    case indexInvalid(expected: String, found: String)
    case shardOutsideFolder(tensor: String, file: String)
    case shardMissing(tensor: String, file: String)
    case tensorMissing(tensor: String, file: String)
    case tensorTwice(tensor: String, files: [String])
  }

  package var path: String
  package var defect: Defect

  package init(_ path: String, _ defect: Defect) {
    self.path = path
    self.defect = defect
  }

  package var description: String { "\(path): \(reason)" }

  private var reason: String {
    switch defect {
    case .tooShort(let size): "a safetensors file has at least 8 bytes, this one has \(size)"
    case .headerTooLarge(let length, let limit):
      "the header claims \(length) bytes, at most \(limit) are accepted; this is probably not a safetensors file"
    case .headerBeyondEnd(let length, let size):
      "the header claims \(length) bytes after the first 8, but the file ends at \(size): cut off, or not a "
        + "safetensors file"
    case .headerNotJSON(let reason): "the header is \(reason)"
    case .headerNotObject(let found): "the header must be a JSON object, found \(found)"
    case .metadataNotStrings(let key, let found):
      "'__metadata__' must be an object of strings, found \(found)" + (key.map { " under '\($0)'" } ?? "")
    case .entryNotObject(let tensor, let found): "tensor '\(tensor)': the entry must be an object, found \(found)"
    case .unknownField(let tensor, let field):
      "tensor '\(tensor)': unknown field '\(field)', expected dtype, shape and data_offsets"
    case .invalidField(let tensor, let field, let expected, let found):
      "tensor '\(tensor)': '\(field)' must be \(expected), found \(found)"
    case .unknownDType(let tensor, let dtype): "tensor '\(tensor)': unknown dtype '\(dtype)'"
    case .offsetsReversed(let tensor, let begin, let end):
      "tensor '\(tensor)': data_offsets end (\(end)) lies before begin (\(begin))"
    case .sizeOverflow(let tensor, let shape):
      "tensor '\(tensor)': shape \(shape) has more values than can be addressed"
    case .misalignedSize(let tensor, let dtype, let count):
      "tensor '\(tensor)': \(count) values of \(dtype.rawValue) do not fill whole bytes"
    case .wrongSize(let tensor, let expected, let found):
      "tensor '\(tensor)': dtype and shape make \(expected) bytes, data_offsets span \(found)"
    case .overlap(let tensor, let begin, let expected):
      "tensor '\(tensor)' begins at byte \(begin) of the data, inside the tensor before it, which ends at \(expected)"
    case .hole(let tensor, let begin, let expected):
      "tensor '\(tensor)' begins at byte \(begin) of the data, the one before it ends at \(expected): holes are not "
        + "allowed"
    case .dataMissing(let expected, let found):
      "the tensors need \(expected) bytes of data, the file has \(found): the download or copy may be incomplete"
    case .dataUnused(let expected, let found): "the tensors need \(expected) bytes of data, the file has \(found)"
    case .noModel(let found):
      "there is neither model.safetensors nor model.safetensors.index.json"
        + (found.map { "; '\($0)' is a pickle file, which is not read: convert it to safetensors" } ?? "")
    case .indexNotJSON(let reason): reason
    case .indexInvalid(let expected, let found): "expected \(expected), found \(found)"
    case .shardOutsideFolder(let tensor, let file):
      "tensor '\(tensor)' is said to be in '\(file)': only names of files in the same folder are allowed"
    case .shardMissing(let tensor, let file): "tensor '\(tensor)' is said to be in '\(file)', which does not exist"
    case .tensorMissing(let tensor, let file): "tensor '\(tensor)' is said to be in '\(file)', but that file lacks it"
    case .tensorTwice(let tensor, let files):
      "tensor '\(tensor)' is in \(files.joined(separator: " and in ")), and the index does not say which one counts"
    }
  }
}
