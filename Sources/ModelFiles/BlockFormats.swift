/// The block formats of GGUF files: how a block of bytes becomes fp32 values.
///
/// Layouts as llama.cpp defines them (all little-endian): `d` and `m` are a block's scale and minimum in f16, `q` the integers.
enum BlockFormats {
  /// Decodes `blocks` blocks of `dtype` (a readable one other than F32). Products and sums round one by one, as the reference does.
  static func decode(
    _ dtype: TensorDType, _ input: UnsafePointer<UInt8>, blocks: Int, into output: UnsafeMutablePointer<Float>
  ) {
    let raw = UnsafeRawPointer(input)
    switch dtype {
    case .bf16: HalfPrecision.decodeBFloat16(raw.assumingMemoryBound(to: UInt16.self), count: blocks, into: output)
    case .f16: HalfPrecision.decodeFloat16(raw.assumingMemoryBound(to: UInt16.self), count: blocks, into: output)
    default: preconditionFailure("\(dtype.rawValue) is not readable")
    }
  }
}
