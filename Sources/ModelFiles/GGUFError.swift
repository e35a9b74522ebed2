/// A defect of a GGUF file: one case each, described with path, key or tensor, expected and found.
package struct GGUFError: Error, CustomStringConvertible, Equatable {
  package enum Defect: Equatable, Sendable {
    // The file's frame.
    case wrongMagic(found: [UInt8])
    case bigEndian
    case unsupportedVersion(UInt32)
    case cutOff(what: String, at: Int, size: Int)
    case countTooLarge(what: String, count: UInt64, room: Int)
    case metadataTooLarge(limit: Int)
    // Metadata.
    case keyNotUTF8(at: Int)
    case keyTwice(String)
    case unknownValueType(key: String, type: UInt32)
    case invalidBool(key: String, byte: UInt8)
    case nestedTooDeep(key: String, limit: Int)
    case invalidAlignment(found: String)
    case splitFile(parts: Int)
    // Tensors.
    case nameNotUTF8(at: Int)
    case tensorTwice(String)
    case tooManyDimensions(tensor: String, count: UInt32)
    case sizeOverflow(tensor: String, dimensions: [UInt64])
    case unknownTensorType(tensor: String, type: UInt32)
    case partialBlock(tensor: String, dtype: TensorDType, rowLength: Int)
    case misaligned(tensor: String, offset: UInt64, alignment: Int)
    case beyondEnd(tensor: String, offset: UInt64, bytes: Int, available: Int)
    case overlap(tensor: String, offset: Int, previous: String, end: Int)
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
    case .wrongMagic(let found):
      "not a GGUF file: it begins with \(found.map { String($0, radix: 16) }.joined(separator: " ")) instead of 'GGUF'"
    case .bigEndian: "a big-endian GGUF file; only little-endian ones are read"
    case .unsupportedVersion(let version): "GGUF version \(version); versions 2 and 3 are read"
    case .cutOff(let what, let at, let size):
      "\(what) at byte \(at) does not fit in the file, which has \(size): the download or copy may be incomplete"
    case .countTooLarge(let what, let count, let room):
      "\(what) claims \(count) elements, the rest of the file has room for at most \(room)"
    case .metadataTooLarge(let limit): "the metadata takes more than \(limit) bytes"
    case .keyNotUTF8(let at): "the metadata key at byte \(at) is not valid UTF-8"
    case .keyTwice(let key): "metadata key '\(key)' occurs twice"
    case .unknownValueType(let key, let type): "metadata key '\(key)' has the unknown type \(type)"
    case .invalidBool(let key, let byte): "metadata key '\(key)': a boolean must be 0 or 1, found \(byte)"
    case .nestedTooDeep(let key, let limit): "metadata key '\(key)': arrays are nested more than \(limit) deep"
    case .invalidAlignment(let found): "'general.alignment' must be a uint32 that is a power of two, found \(found)"
    case .splitFile(let parts):
      "one of \(parts) parts of a split model; join them first (llama-gguf-split --merge)"
    case .nameNotUTF8(let at): "the tensor name at byte \(at) is not valid UTF-8"
    case .tensorTwice(let tensor): "tensor '\(tensor)' occurs twice"
    case .tooManyDimensions(let tensor, let count): "tensor '\(tensor)' has \(count) dimensions, at most 4 are possible"
    case .sizeOverflow(let tensor, let dimensions):
      "tensor '\(tensor)': dimensions \(dimensions) make more values than can be addressed"
    case .unknownTensorType(let tensor, let type): "tensor '\(tensor)' has the unknown type \(type)"
    case .partialBlock(let tensor, let dtype, let rowLength):
      "tensor '\(tensor)': rows of \(rowLength) values do not fill whole blocks of "
        + "\(dtype.block.values) (\(dtype.rawValue))"
    case .misaligned(let tensor, let offset, let alignment):
      "tensor '\(tensor)' begins at offset \(offset), which is not a multiple of the alignment \(alignment)"
    case .beyondEnd(let tensor, let offset, let bytes, let available):
      "tensor '\(tensor)' takes \(bytes) bytes from offset \(offset), but the file has \(available) bytes of data: "
        + "the download or copy may be incomplete"
    case .overlap(let tensor, let offset, let previous, let end):
      "tensor '\(tensor)' begins at offset \(offset), inside tensor '\(previous)', which ends at \(end)"
    }
  }
}
