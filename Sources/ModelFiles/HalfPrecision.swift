import Tensors

/// Whole arrays between fp32 and the 16-bit formats; the same results as `FloatFormats`, several values at a time.
enum HalfPrecision {
  static func decodeBFloat16(_ input: UnsafePointer<UInt16>, count: Int, into output: UnsafeMutablePointer<Float>) {
    for i in 0..<count { output[i] = FloatFormats.float(bfloat16: input[i]) }
  }

  static func decodeFloat16(_ input: UnsafePointer<UInt16>, count: Int, into output: UnsafeMutablePointer<Float>) {
    let whole = count & ~7
    var i = 0
    while i < whole {
      let half = UnsafeRawPointer(input + i).loadUnaligned(as: SIMD8<UInt16>.self)
      let bits = SIMD8<UInt32>(truncatingIfNeeded: half)
      let sign = (bits & 0x8000) &<< 16
      let magnitude = bits & 0x7FFF
      // Normal values move to fp32's exponent bias; infinities and NaN get all exponent bits.
      var decoded = magnitude &<< 13 &+ (112 << 23)
      decoded.replace(with: magnitude &<< 13 | 0x7F80_0000, where: magnitude .>= 0x7C00)
      // Zero and subnormals are multiples of 2^-24. Their product is a normal fp32 value: right also where subnormals are flushed.
      let small = SIMD8<Float>(SIMD8<Int32>(truncatingIfNeeded: magnitude)) * 0x1p-24
      decoded.replace(with: unsafeBitCast(small, to: SIMD8<UInt32>.self), where: magnitude .< 0x0400)
      UnsafeMutableRawPointer(output + i).storeBytes(of: decoded | sign, as: SIMD8<UInt32>.self)
      i += 8
    }
    while i < count {
      output[i] = FloatFormats.float(float16: input[i])
      i += 1
    }
  }

  static func encodeBFloat16(_ input: UnsafePointer<Float>, count: Int, into output: UnsafeMutablePointer<UInt16>) {
    for i in 0..<count { output[i] = FloatFormats.bfloat16(input[i]) }
  }

  static func encodeFloat16(_ input: UnsafePointer<Float>, count: Int, into output: UnsafeMutablePointer<UInt16>) {
    for i in 0..<count { output[i] = FloatFormats.float16(input[i]) }
  }
}
