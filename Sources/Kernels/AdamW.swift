/// AdamW (Loshchilov and Hutter, arXiv 1711.05101, algorithm 2) as `torch.optim.AdamW` computes it, bias corrections
/// included.
///
/// Stateless: any thread may update any range, and the result does not depend on how a range is cut.
package enum AdamW {
  package struct Hyperparameters: Sendable, Equatable {
    package var beta1: Double
    package var beta2: Double
    package var epsilon: Double
    package var weightDecay: Double

    package init(beta1: Double = 0.9, beta2: Double = 0.999, epsilon: Double = 1e-8, weightDecay: Double = 0) {
      self.beta1 = beta1
      self.beta2 = beta2
      self.epsilon = epsilon
      self.weightDecay = weightDecay
    }
  }

  /// One update of `count` values; the five arrays are indexed alike and do not overlap.
  ///
  ///     g = gradientScale * gradient
  ///     m += (1 - beta1) (g - m);  v = beta2 v + (1 - beta2) g^2
  ///     p -= lr * weightDecay * p + lr / (1 - beta1^step) * m / (sqrt(v) / sqrt(1 - beta2^step) + epsilon)
  ///
  /// PyTorch rounds `1 - lr * weightDecay` to fp32 first, where small learning rates lose the decay; here both parts
  /// leave `p` in one rounding.
  /// - Parameter step: number of this update, from 1.
  package static func update(
    parameters: UnsafeMutablePointer<Float>, gradients: UnsafePointer<Float>,
    firstMoments: UnsafeMutablePointer<Float>, secondMoments: UnsafeMutablePointer<Float>, count: Int,
    step: Int, learningRate: Double, gradientScale: Float = 1, _ hyperparameters: Hyperparameters
  ) {
    precondition(count >= 0 && step >= 1)
    let factors = Factors(
      step: step, learningRate: learningRate, gradientScale: gradientScale, hyperparameters: hyperparameters)
    let whole = count / Lanes.scalarCount * Lanes.scalarCount
    var index = 0
    while index < whole {
      factors.apply(gradients + index, firstMoments + index, secondMoments + index, parameters + index)
      index += Lanes.scalarCount
    }
    guard index < count else { return }
    // The last values go through the same arithmetic, padded with zeros: a value's result does not depend on its place.
    let width = Lanes.scalarCount
    withUnsafeTemporaryAllocation(of: Float.self, capacity: 4 * width) { padded in
      guard let start = padded.baseAddress else { return }
      start.initialize(repeating: 0, count: padded.count)
      let rest = count - index
      start.update(from: gradients + index, count: rest)
      (start + width).update(from: firstMoments + index, count: rest)
      (start + 2 * width).update(from: secondMoments + index, count: rest)
      (start + 3 * width).update(from: parameters + index, count: rest)
      factors.apply(start, start + width, start + 2 * width, start + 3 * width)
      (firstMoments + index).update(from: start + width, count: rest)
      (secondMoments + index).update(from: start + 2 * width, count: rest)
      (parameters + index).update(from: start + 3 * width, count: rest)
    }
  }

  private typealias Lanes = SIMD16<Float>

  /// What the update multiplies with, formed in fp64 and rounded once.
  private struct Factors {
    let gradientScale: Float
    let oneMinusBeta1: Float
    let beta2: Float
    let oneMinusBeta2: Float
    let inverseRootCorrection2: Float
    let epsilon: Float
    let stepSize: Float
    let decay: Float

    init(step: Int, learningRate: Double, gradientScale: Float, hyperparameters: Hyperparameters) {
      let correction1 = 1 - Factors.power(hyperparameters.beta1, step)
      let correction2 = 1 - Factors.power(hyperparameters.beta2, step)
      self.gradientScale = gradientScale
      oneMinusBeta1 = Float(1 - hyperparameters.beta1)
      beta2 = Float(hyperparameters.beta2)
      oneMinusBeta2 = Float(1 - hyperparameters.beta2)
      inverseRootCorrection2 = Float(1 / correction2.squareRoot())
      epsilon = Float(hyperparameters.epsilon)
      stepSize = Float(learningRate / correction1)
      decay = Float(learningRate * hyperparameters.weightDecay)
    }

    /// The update of one vector of values.
    @inline(__always)
    func apply(
      _ gradients: UnsafePointer<Float>, _ firstMoments: UnsafeMutablePointer<Float>,
      _ secondMoments: UnsafeMutablePointer<Float>, _ parameters: UnsafeMutablePointer<Float>
    ) {
      let g = load(gradients) * gradientScale
      let m = load(firstMoments)
      let first = m.addingProduct(Lanes(repeating: oneMinusBeta1), g - m)
      let second = (load(secondMoments) * beta2).addingProduct(g * oneMinusBeta2, g)
      let denominator = Lanes(repeating: epsilon).addingProduct(
        squareRoot(second), Lanes(repeating: inverseRootCorrection2))
      let p = load(parameters)
      store(first, firstMoments)
      store(second, secondMoments)
      store(p - (first / denominator * stepSize).addingProduct(p, Lanes(repeating: decay)), parameters)
    }

    @inline(__always)
    private func load(_ pointer: UnsafePointer<Float>) -> Lanes {
      UnsafeRawPointer(pointer).loadUnaligned(as: Lanes.self)
    }

    @inline(__always)
    private func store(_ lanes: Lanes, _ pointer: UnsafeMutablePointer<Float>) {
      UnsafeMutableRawPointer(pointer).storeBytes(of: lanes, as: Lanes.self)
    }

    /// To half a unit in the last place for normal numbers; zero stays zero, infinity turns NaN.
    /// `SIMD16.squareRoot()` goes lane by lane and halves the speed of the update: a first guess from the exponent,
    /// three Newton steps for 1/sqrt, one for the root itself.
    @inline(__always)
    private func squareRoot(_ x: Lanes) -> Lanes {
      let bits = unsafeBitCast(x, to: SIMD16<UInt32>.self)
      var inverse = unsafeBitCast(SIMD16<UInt32>(repeating: 0x5F37_59DF) &- (bits &>> 1), to: Lanes.self)
      let half = x * 0.5
      for _ in 0..<3 { inverse *= Lanes(repeating: 1.5).addingProduct(-half * inverse, inverse) }
      let root = x * inverse
      return root.addingProduct(inverse * 0.5, x.addingProduct(-root, root))
    }

    /// `base` to the power of a whole number, by squaring.
    private static func power(_ base: Double, _ exponent: Int) -> Double {
      var result = 1.0
      var factor = base
      var left = exponent
      while left > 0 {
        if left & 1 == 1 { result *= factor }
        factor *= factor
        left >>= 1
      }
      return result
    }
  }
}
