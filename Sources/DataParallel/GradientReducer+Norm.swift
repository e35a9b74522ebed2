package import Collectives

extension GradientReducer {
  /// L2 norm of the reduced gradients, with the same bits on all ranks; to be called by all of them after `finish()`.
  ///
  /// Each rank sums the squares of its own slices, whether it holds the others too or not: the norm is the same bit for
  /// bit. Where sums must not depend on the ranks, squares are summed block by block, and blocks in order. Not finite when
  /// a gradient is not, on all ranks, which makes it the place to decide that a step is skipped.
  package func globalNorm() throws(MPIError) -> Double {
    let byBlock = mesh.partialSums != nil
    var totals = [Double](repeating: 0, count: byBlock ? gradients.count / SumOfSquares.block + 1 : 1)
    for slice in plan.slices(of: communicator.rank) {
      guard byBlock else {
        totals[0] += SumOfSquares.of(UnsafeBufferPointer(rebasing: gradients[slice]))
        continue
      }
      for start in stride(from: slice.lowerBound, to: slice.upperBound, by: SumOfSquares.block) {
        let block = start..<min(start + SumOfSquares.block, slice.upperBound)
        totals[start / SumOfSquares.block] += SumOfSquares.of(UnsafeBufferPointer(rebasing: gradients[block]))
      }
    }
    // A block is one rank's, and zeros change nothing.
    try communicator.agree(sum: &totals)
    return totals.reduce(0, +).squareRoot()
  }

  /// What gradients are multiplied with so that their norm does not exceed `maxNorm`: PyTorch's `min(1, maxNorm /
  /// (norm + 1e-6))`; 1 when `maxNorm` is 0 or less, which Hugging Face takes as no clipping. NaN when the norm is.
  package static func clipScale(norm: Double, maxNorm: Double) -> Float {
    guard maxNorm > 0 else { return 1 }
    let scale = maxNorm / (norm + 1e-6)
    return scale.isNaN ? .nan : Float(min(scale, 1))
  }

  /// Scales the gradients in place; for callers that want them clipped rather than `clipScale` handed to the optimizer.
  package func clip(norm: Double, maxNorm: Double) {
    let scale = Self.clipScale(norm: norm, maxNorm: maxNorm)
    guard scale != 1, let start = gradients.baseAddress else { return }
    for index in 0..<gradients.count { start[index] *= scale }
  }
}

/// Sums of squares in fp64.
enum SumOfSquares {
  /// Values whose squares are summed before they are added to the rest.
  static let block = 1 << 14

  static func of(_ values: UnsafeBufferPointer<Float>) -> Double {
    guard let start = values.baseAddress else { return 0 }
    var total = 0.0
    var index = 0
    while index < values.count {
      let count = min(block, values.count - index)
      total += ofBlock(start + index, count)
      index += count
    }
    return total
  }

  /// Sixteen running sums; fp32 squares would lose gradients below 1e-23 and overflow above 1e19.
  private static func ofBlock(_ start: UnsafePointer<Float>, _ count: Int) -> Double {
    var low = SIMD8<Double>.zero
    var high = SIMD8<Double>.zero
    let whole = count / 16 * 16
    var index = 0
    while index < whole {
      let values = UnsafeRawPointer(start + index).loadUnaligned(as: SIMD16<Float>.self)
      let first = SIMD8<Double>(values.lowHalf)
      let second = SIMD8<Double>(values.highHalf)
      low.addProduct(first, first)
      high.addProduct(second, second)
      index += 16
    }
    var rest = 0.0
    for last in whole..<count { rest += Double(start[last]) * Double(start[last]) }
    return (low + high).sum() + rest
  }
}
