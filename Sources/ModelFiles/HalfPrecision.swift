import Tensors

/// Whole arrays between fp32 and the 16-bit formats; the same results as `FloatFormats`, several values at a time.
enum HalfPrecision {
  static func decodeBFloat16(_ input: UnsafePointer<UInt16>, count: Int, into output: UnsafeMutablePointer<Float>) {
    for i in 0..<count { output[i] = Float(bitPattern: UInt32(input[i]) &<< 16) }
  }

  /// Without branches, so that the compiler turns it into vector instructions.
  static func decodeFloat16(_ input: UnsafePointer<UInt16>, count: Int, into output: UnsafeMutablePointer<Float>) {
    for i in 0..<count {
      let half = UInt32(input[i])
      let magnitude = half & 0x7FFF
      // Normal values move to fp32's exponent bias; infinities and NaN get all exponent bits.
      let normal = magnitude &<< 13 &+ 0x3800_0000
      let special = magnitude &<< 13 | 0x7F80_0000
      // Zero and subnormals are multiples of 2^-24. Their product is a normal fp32 value: right also where subnormals
      // are flushed.
      let small = (Float(Int32(truncatingIfNeeded: magnitude)) * 0x1p-24).bitPattern
      let decoded = magnitude < 0x0400 ? small : magnitude < 0x7C00 ? normal : special
      output[i] = Float(bitPattern: decoded | (half & 0x8000) &<< 16)
    }
  }

  static func encodeBFloat16(_ input: UnsafePointer<Float>, count: Int, into output: UnsafeMutablePointer<UInt16>) {
    for i in 0..<count { output[i] = FloatFormats.bfloat16(input[i]) }
  }

  static func encodeFloat16(_ input: UnsafePointer<Float>, count: Int, into output: UnsafeMutablePointer<UInt16>) {
    for i in 0..<count { output[i] = FloatFormats.float16(input[i]) }
  }
}
