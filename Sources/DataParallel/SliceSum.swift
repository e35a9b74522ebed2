/// Sums of a few arrays, and fp32 as bf16 for the wire.
enum SliceSum {
  /// One array of a sum.
  enum Term {
    case fp32(UnsafePointer<Float>)
    case bf16(UnsafePointer<UInt16>)
  }

  private typealias Lanes = SIMD16<Float>
  /// Values summed at a time: partial sums stay in the first-level cache.
  private static let block = 2048

  /// `output[i] = ((terms[0][i] + terms[1][i]) + terms[2][i]) + ...`, each sum rounded to fp32. `output` may be one of
  /// the terms.
  static func add(_ terms: [Term], count: Int, into output: UnsafeMutablePointer<Float>) {
    withUnsafeTemporaryAllocation(of: Float.self, capacity: block) { partial in
      guard let partial = partial.baseAddress else { return }
      var start = 0
      while start < count {
        let length = min(block, count - start)
        for (index, term) in terms.enumerated() {
          // `output` is written last: until then it may still have to be read.
          let target = index == terms.count - 1 ? output + start : partial
          let previous: UnsafePointer<Float>? = index == 0 ? nil : UnsafePointer(partial)
          switch term {
          case .fp32(let values): sum(previous, values + start, length, into: target)
          case .bf16(let values): sum(previous, values + start, length, into: target)
          }
        }
        start += length
      }
    }
  }

  /// Nearest, ties to even; NaN stays NaN.
  static func encode(_ input: UnsafePointer<Float>, count: Int, into output: UnsafeMutablePointer<UInt16>) {
    typealias Bits = SIMD16<UInt32>
    func rounded(_ bits: Bits) -> SIMD16<UInt16> {
      let nearest = bits &+ Bits(repeating: 0x7FFF) &+ ((bits &>> 16) & 1)
      let isNaN = (bits & 0x7FFF_FFFF) .> Bits(repeating: 0x7F80_0000)
      return SIMD16<UInt16>(truncatingIfNeeded: nearest.replacing(with: bits | 0x0040_0000, where: isNaN) &>> 16)
    }
    let whole = count / 16 * 16
    for index in stride(from: 0, to: whole, by: 16) {
      let bits = UnsafeRawPointer(input + index).loadUnaligned(as: Bits.self)
      UnsafeMutableRawPointer(output + index).storeBytes(of: rounded(bits), as: SIMD16<UInt16>.self)
    }
    for index in whole..<count { output[index] = rounded(Bits(repeating: input[index].bitPattern))[0] }
  }

  /// `target = previous + values`, or `values` alone.
  private static func sum(
    _ previous: UnsafePointer<Float>?, _ values: UnsafePointer<Float>, _ count: Int,
    into target: UnsafeMutablePointer<Float>
  ) {
    guard let previous else { return target.update(from: values, count: count) }
    let whole = count / 16 * 16
    for index in stride(from: 0, to: whole, by: 16) {
      let lanes = load(previous + index) + load(values + index)
      UnsafeMutableRawPointer(target + index).storeBytes(of: lanes, as: Lanes.self)
    }
    for index in whole..<count { target[index] = previous[index] + values[index] }
  }

  private static func sum(
    _ previous: UnsafePointer<Float>?, _ values: UnsafePointer<UInt16>, _ count: Int,
    into target: UnsafeMutablePointer<Float>
  ) {
    let whole = count / 16 * 16
    for index in stride(from: 0, to: whole, by: 16) {
      let bits = SIMD16<UInt32>(
        truncatingIfNeeded: UnsafeRawPointer(values + index).loadUnaligned(as: SIMD16<UInt16>.self))
      let lanes = unsafeBitCast(bits &<< 16, to: Lanes.self)
      let sum = previous.map { load($0 + index) + lanes } ?? lanes
      UnsafeMutableRawPointer(target + index).storeBytes(of: sum, as: Lanes.self)
    }
    for index in whole..<count {
      let value = Float(bitPattern: UInt32(values[index]) << 16)
      target[index] = previous.map { $0[index] + value } ?? value
    }
  }

  @inline(__always)
  private static func load(_ values: UnsafePointer<Float>) -> Lanes {
    UnsafeRawPointer(values).loadUnaligned(as: Lanes.self)
  }
}
