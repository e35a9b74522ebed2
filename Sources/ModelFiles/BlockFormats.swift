import Tensors

/// The block formats of GGUF files: how a block of bytes becomes fp32 values.
///
/// Layouts as llama.cpp defines them, little-endian. Products and sums are rounded one by one, as in the reference, so
/// results are equal to it bit by bit. This file has the formats of 32 values a block; `BlockFormats+K` those of 256.
enum BlockFormats {
  typealias Bytes = UnsafePointer<UInt8>
  typealias Values = UnsafeMutablePointer<Float>

  /// Decodes `blocks` consecutive blocks into `output`, which has room for all their values.
  /// - Precondition: `dtype` is readable and not F32.
  static func decode(_ dtype: TensorDType, _ input: Bytes, blocks: Int, into output: Values) {
    let raw = UnsafeRawPointer(input)
    switch dtype {
    case .bf16: HalfPrecision.decodeBFloat16(raw.assumingMemoryBound(to: UInt16.self), count: blocks, into: output)
    case .f16: HalfPrecision.decodeFloat16(raw.assumingMemoryBound(to: UInt16.self), count: blocks, into: output)
    case .q8_0: each(dtype, input, blocks, output, q8_0)
    case .q4_0: each(dtype, input, blocks, output, q4_0)
    case .q4_1: each(dtype, input, blocks, output, q4_1)
    case .q5_0: each(dtype, input, blocks, output, q5_0)
    case .q5_1: each(dtype, input, blocks, output, q5_1)
    case .q2_K: each(dtype, input, blocks, output, q2K)
    case .q3_K: each(dtype, input, blocks, output, q3K)
    case .q4_K: each(dtype, input, blocks, output, q4K)
    case .q5_K: each(dtype, input, blocks, output, q5K)
    case .q6_K: each(dtype, input, blocks, output, q6K)
    default: preconditionFailure("\(dtype.rawValue) is not readable")
    }
  }

  @inline(__always)
  private static func each(
    _ dtype: TensorDType, _ input: Bytes, _ blocks: Int, _ output: Values, _ decode: (Bytes, Values) -> Void
  ) {
    let (values, bytes) = dtype.block
    for i in 0..<blocks { decode(input + i &* bytes, output + i &* values) }
  }

  /// The f16 at `bytes[0...1]`.
  @inline(__always)
  static func half(_ bytes: Bytes) -> Float {
    FloatFormats.float(float16: UInt16(bytes[0]) | UInt16(bytes[1]) << 8)
  }

  /// `d | q[32]` signed: d q
  private static func q8_0(_ bytes: Bytes, _ output: Values) {
    let d = half(bytes)
    let q = bytes + 2
    for i in 0..<32 { output[i] = Float(Int32(Int8(bitPattern: q[i]))) * d }
  }

  /// `d | q[16]`, low halves of the bytes first: d (q - 8)
  private static func q4_0(_ bytes: Bytes, _ output: Values) {
    let d = half(bytes)
    let q = bytes + 2
    for i in 0..<16 {
      output[i] = d * Float(Int32(q[i] & 15) &- 8)
      output[i &+ 16] = d * Float(Int32(q[i] >> 4) &- 8)
    }
  }

  /// `d | m | q[16]`: d q + m
  private static func q4_1(_ bytes: Bytes, _ output: Values) {
    let d = half(bytes)
    let m = half(bytes + 2)
    let q = bytes + 4
    for i in 0..<16 {
      output[i] = d * Float(Int32(q[i] & 15)) + m
      output[i &+ 16] = d * Float(Int32(q[i] >> 4)) + m
    }
  }

  /// `d | fifth bits (32 bit) | q[16]`: d (q - 16)
  private static func q5_0(_ bytes: Bytes, _ output: Values) {
    let d = half(bytes)
    let high = fifthBits(bytes + 2)
    let q = bytes + 6
    for i in 0..<16 {
      output[i] = d * Float((Int32(q[i] & 15) | fifth(high, i)) &- 16)
      output[i &+ 16] = d * Float((Int32(q[i] >> 4) | fifth(high, i &+ 16)) &- 16)
    }
  }

  /// `d | m | fifth bits (32 bit) | q[16]`: d q + m
  private static func q5_1(_ bytes: Bytes, _ output: Values) {
    let d = half(bytes)
    let m = half(bytes + 2)
    let high = fifthBits(bytes + 4)
    let q = bytes + 8
    for i in 0..<16 {
      output[i] = d * Float(Int32(q[i] & 15) | fifth(high, i)) + m
      output[i &+ 16] = d * Float(Int32(q[i] >> 4) | fifth(high, i &+ 16)) + m
    }
  }

  @inline(__always)
  private static func fifthBits(_ bytes: Bytes) -> UInt32 {
    UInt32(bytes[0]) | UInt32(bytes[1]) << 8 | UInt32(bytes[2]) << 16 | UInt32(bytes[3]) << 24
  }

  @inline(__always)
  private static func fifth(_ bits: UInt32, _ i: Int) -> Int32 {
    Int32(truncatingIfNeeded: (bits &>> UInt32(truncatingIfNeeded: i)) & 1) &<< 4
  }
}
