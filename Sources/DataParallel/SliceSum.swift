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

  /// The sum of `terms`, in ascending order of their spans, formed by the tree that `PartSpan` describes, each sum
  /// rounded to fp32. `output` may be one of the terms.
  static func add(_ terms: [(span: PartSpan, values: Term)], count: Int, into output: UnsafeMutablePointer<Float>) {
    if terms.count == 1, case .fp32(let values) = terms[0].values, values == UnsafePointer(output) { return }
    let moves = moves(terms.map(\.span))
    withUnsafeTemporaryAllocation(of: Float.self, capacity: block * max(terms.count, 1)) { partial in
      guard let partial = partial.baseAddress, !terms.isEmpty else { return }
      var start = 0
      while start < count {
        let length = min(block, count - start)
        for move in moves {
          let target = partial + move.target * block
          switch move.source {
          case .term(let index):
            let previous = move.adds ? UnsafePointer(target) : nil
            switch terms[index].values {
            case .fp32(let values): sum(previous, values + start, length, into: target)
            case .bf16(let values): sum(previous, values + start, length, into: target)
            }
          case .partial(let index): sum(target, partial + index * block, length, into: target)
          }
        }
        // Written last: until then it may still have to be read.
        (output + start).update(from: partial, count: length)
        start += length
      }
    }
  }

  /// `target += values`.
  static func add(_ values: UnsafePointer<Float>, to target: UnsafeMutablePointer<Float>, count: Int) {
    sum(target, values, count, into: target)
  }

  /// A step of forming the sum on a stack of partial sums: a term, or the partial sum above, comes to the one at `target`.
  private struct Move {
    enum Source {
      case term(Int)
      case partial(Int)
    }
    var target: Int
    var source: Source
    var adds: Bool
  }

  private static func moves(_ spans: [PartSpan]) -> [Move] {
    var stack: [PartSpan] = []
    var moves: [Move] = []
    for (index, span) in spans.enumerated() {
      if let joined = stack.last?.joined(with: span) {
        stack[stack.count - 1] = joined
        moves.append(Move(target: stack.count - 1, source: .term(index), adds: true))
      } else {
        moves.append(Move(target: stack.count, source: .term(index), adds: false))
        stack.append(span)
      }
      while stack.count > 1, let joined = stack[stack.count - 2].joined(with: stack[stack.count - 1]) {
        stack.removeLast()
        stack[stack.count - 1] = joined
        moves.append(Move(target: stack.count - 1, source: .partial(stack.count), adds: true))
      }
    }
    for target in (0..<max(stack.count - 1, 0)).reversed() {
      moves.append(Move(target: target, source: .partial(target + 1), adds: true))
    }
    return moves
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
