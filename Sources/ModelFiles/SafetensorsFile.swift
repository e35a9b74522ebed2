import JSON

/// One `.safetensors` file: 8 bytes header length, a JSON header, then the tensors' bytes without holes.
///
/// Everything the header claims is checked when the file is opened, so a later read can only fail on the disk.
package struct SafetensorsFile: TensorSource {
  /// Largest header that is parsed (the limit of the reference implementation).
  package static let headerLimit = 100_000_000

  /// `__metadata__`, in file order; empty when absent.
  package let metadata: [(key: String, value: String)]
  package let tensors: [TensorInfo]
  /// Where each tensor's bytes begin in the file.
  private let offsets: [Int]
  private let index: NameIndex
  private let file: ReadableFile

  package var path: String { file.path }

  /// - Throws: `FileError`; `SafetensorsError` naming the first defect.
  package init(path: String) throws {
    file = try ReadableFile(path: path)
    guard file.size >= 8 else { throw SafetensorsError(path, .tooShort(size: file.size)) }
    let claimed = try file.bytes(at: 0, count: 8).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
    guard claimed <= Self.headerLimit else {
      throw SafetensorsError(path, .headerTooLarge(length: claimed, limit: Self.headerLimit))
    }
    let length = Int(claimed)
    guard length <= file.size - 8 else {
      throw SafetensorsError(path, .headerBeyondEnd(length: length, size: file.size))
    }
    let json: JSONValue
    do {
      json = try JSONValue(parsing: file.bytes(at: 8, count: length))
    } catch let error as JSONError {
      throw SafetensorsError(path, .headerNotJSON(reason: error.description))
    }
    let header = try SafetensorsHeader(json, path: path)
    let dataSize = file.size - 8 - length
    guard header.dataSize <= dataSize else {
      throw SafetensorsError(path, .dataMissing(expected: header.dataSize, found: dataSize))
    }
    guard header.dataSize == dataSize else {
      throw SafetensorsError(path, .dataUnused(expected: header.dataSize, found: dataSize))
    }
    metadata = header.metadata
    tensors = header.entries.map(\.info)
    offsets = header.entries.map { $0.range.lowerBound + 8 + length }
    index = header.index
  }

  package func info(_ name: String) -> TensorInfo? { index[name].map { tensors[$0] } }

  package func read(_ name: String, into values: UnsafeMutableBufferPointer<Float>) throws {
    guard let position = index[name] else { throw TensorReadError.noSuchTensor(path: path, tensor: name) }
    try TensorReader.read(tensors[position], from: file, at: offsets[position], into: values)
  }

  /// Writes some of an F32 tensor's values, those from `first` on, row by row.
  /// - Throws: as `read(_:into:)`; `values` must not go beyond the tensor's end.
  package func read(_ name: String, from first: Int, into values: UnsafeMutableBufferPointer<Float>) throws {
    guard let position = index[name] else { throw TensorReadError.noSuchTensor(path: path, tensor: name) }
    var part = tensors[position]
    guard part.dtype == .f32 else {
      throw TensorReadError.notF32(path: path, tensor: name, dtype: part.dtype)
    }
    guard first >= 0, first + values.count <= part.count else {
      throw TensorReadError.wrongCount(path: path, tensor: name, expected: part.count, found: first + values.count)
    }
    part.shape = [values.count]
    try TensorReader.read(part, from: file, at: offsets[position] + first * part.dtype.block.bytes, into: values)
  }
}
