import Tensors

/// Reads stored values and converts them to fp32 on the way.
enum TensorReader {
  /// Bytes read at a time when values are converted: small enough to stay in the second-level cache.
  private static let blockBytes = 1 << 20

  /// Reads `values.count` values of `info.dtype` that start at `offset`.
  ///
  /// F32 goes straight into `values`; other dtypes pass through one block of scratch memory, so resident memory does
  /// not grow with the file.
  static func read(
    _ info: TensorInfo, from file: ReadableFile, at offset: Int, into values: UnsafeMutableBufferPointer<Float>
  ) throws {
    guard values.count == info.count else {
      throw TensorReadError.wrongCount(path: file.path, tensor: info.name, expected: info.count, found: values.count)
    }
    guard info.dtype.isReadable else {
      throw TensorReadError.unsupportedDType(path: file.path, tensor: info.name, dtype: info.dtype)
    }
    guard let output = values.baseAddress, values.count > 0 else { return }
    if info.dtype == .f32 {
      try file.read(at: offset, into: UnsafeMutableRawBufferPointer(values))
      return
    }
    let block = info.dtype.block
    let blocks = values.count / block.values
    let blocksAtOnce = max(min(blockBytes / block.bytes, blocks), 1)
    let scratch = AlignedBuffer<UInt8>(count: blocksAtOnce * block.bytes)
    var done = 0
    while done < blocks {
      let count = min(blocksAtOnce, blocks - done)
      let bytes = UnsafeMutableRawBufferPointer(start: scratch.pointer, count: count * block.bytes)
      try file.read(at: offset + done * block.bytes, into: bytes)
      BlockFormats.decode(info.dtype, scratch.pointer, blocks: count, into: output + done * block.values)
      done += count
    }
  }
}
