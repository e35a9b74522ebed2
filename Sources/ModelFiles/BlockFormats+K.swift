/// The K formats: 256 values a block, in groups of 16 or 32 that have integer scales of their own.
extension BlockFormats {
  /// `scales[16] | q[64] | d | dmin`, a scale byte holding a group's scale (low half) and minimum: d scale q - dmin
  /// minimum
  static func q2K(_ bytes: Bytes, _ output: Values) {
    let q = bytes + 16
    let d = half(bytes + 80)
    let dmin = half(bytes + 82)
    for group in 0..<16 {
      let scale = d * Float(Int32(bytes[group] & 15))
      let minimum = dmin * Float(Int32(bytes[group] >> 4))
      let (offset, shift) = twoBits(group)
      for i in 0..<16 {
        output[group &* 16 &+ i] = scale * Float(Int32((q[offset &+ i] &>> shift) & 3)) - minimum
      }
    }
  }

  /// `third bits[32] | q[64] | scales[12] | d`: d (scale - 32) (q - (third bit set ? 0 : 4))
  static func q3K(_ bytes: Bytes, _ output: Values) {
    let q = bytes + 32
    let scales = bytes + 96
    let d = half(bytes + 108)
    for group in 0..<16 {
      // Low four bits of scale g: byte g mod 8; high two bits: byte 8 + g mod 4.
      let low = Int32(scales[group & 7] &>> UInt8(group < 8 ? 0 : 4)) & 15
      let high = Int32(scales[8 &+ (group & 3)] &>> UInt8(truncatingIfNeeded: 2 &* (group >> 2))) & 3
      let scale = d * Float((low | high &<< 4) &- 32)
      let (offset, shift) = twoBits(group)
      let third = bytes + (group & 1) &* 16
      let bit = UInt8(truncatingIfNeeded: group >> 1)
      for i in 0..<16 {
        let missing = Int32((third[i] &>> bit) & 1 ^ 1) &<< 2
        output[group &* 16 &+ i] = scale * Float(Int32((q[offset &+ i] &>> shift) & 3) &- missing)
      }
    }
  }

  /// `d | dmin | scales and minima[12] | q[128]`: d scale q - dmin minimum
  static func q4K(_ bytes: Bytes, _ output: Values) {
    let d = half(bytes)
    let dmin = half(bytes + 2)
    for group in 0..<8 {
      let (scale, minimum) = sixBits(bytes + 4, group)
      let (ds, dm) = (d * scale, dmin * minimum)
      let q = bytes + 16 + (group >> 1) &* 32
      let shift = UInt8(truncatingIfNeeded: (group & 1) &* 4)
      for i in 0..<32 { output[group &* 32 &+ i] = ds * Float(Int32((q[i] &>> shift) & 15)) - dm }
    }
  }

  /// `d | dmin | scales and minima[12] | fifth bits[32] | q[128]`: d scale q - dmin minimum
  static func q5K(_ bytes: Bytes, _ output: Values) {
    let d = half(bytes)
    let dmin = half(bytes + 2)
    let fifth = bytes + 16
    for group in 0..<8 {
      let (scale, minimum) = sixBits(bytes + 4, group)
      let (ds, dm) = (d * scale, dmin * minimum)
      let q = bytes + 48 + (group >> 1) &* 32
      let shift = UInt8(truncatingIfNeeded: (group & 1) &* 4)
      let bit = UInt8(truncatingIfNeeded: group)
      for i in 0..<32 {
        let value = (q[i] &>> shift) & 15 | ((fifth[i] &>> bit) & 1) &<< 4
        output[group &* 32 &+ i] = ds * Float(Int32(value)) - dm
      }
    }
  }

  /// `low four bits[128] | high two bits[64] | scales[16] signed | d`: d scale (q - 32)
  static func q6K(_ bytes: Bytes, _ output: Values) {
    let d = half(bytes + 208)
    for group in 0..<16 {
      let scale = d * Float(Int32(Int8(bitPattern: bytes[192 &+ group])))
      let (half, part, side) = (group >> 3, (group >> 1) & 3, group & 1)
      let low = bytes + half &* 64 + (part & 1) &* 32 + side &* 16
      let lowShift = UInt8(truncatingIfNeeded: (part >> 1) &* 4)
      let high = bytes + 128 + half &* 32 + side &* 16
      let highShift = UInt8(truncatingIfNeeded: part &* 2)
      for i in 0..<16 {
        let value = (low[i] &>> lowShift) & 15 | ((high[i] &>> highShift) & 3) &<< 4
        output[group &* 16 &+ i] = scale * Float(Int32(value) &- 32)
      }
    }
  }

  /// Where a group of 16 two-bit values lies: four groups share the same bytes, two bits each.
  @inline(__always)
  private static func twoBits(_ group: Int) -> (offset: Int, shift: UInt8) {
    ((group >> 3) &* 32 &+ (group & 1) &* 16, UInt8(truncatingIfNeeded: ((group >> 1) & 3) &* 2))
  }

  /// Scale and minimum, six bits each, of a group of 32: the first four plain, the upper bits of the last four in the
  /// spare bits of these.
  @inline(__always)
  private static func sixBits(_ packed: Bytes, _ group: Int) -> (scale: Float, minimum: Float) {
    if group < 4 {
      return (Float(Int32(packed[group] & 63)), Float(Int32(packed[group &+ 4] & 63)))
    }
    let low = packed[group &+ 4]
    let scale = low & 15 | (packed[group &- 4] >> 6) &<< 4
    let minimum = low >> 4 | (packed[group] >> 6) &<< 4
    return (Float(Int32(scale)), Float(Int32(minimum)))
  }
}
