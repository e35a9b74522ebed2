import Foundation

/// The odds of one pair's completions and how the loss moves with them.
///
/// All in fp64. `1 - p` is never taken smaller than `smallestComplement`, so that a completion the model is certain of
/// (p = 1 in fp32) gives a large finite log odds ratio and derivative in place of infinities.
package struct PairOdds: Sendable, Equatable {
  /// The smallest 1 - p that fp32 tells from zero for p below one: half the unit in the last place of 1.
  package static let smallestComplement = Double(Float.ulpOfOne) / 2

  /// Mean log-probability per token of the completion.
  package let chosenLogp: Double
  package let rejectedLogp: Double
  /// 1 - e^logp, floored.
  package let chosenComplement: Double
  package let rejectedComplement: Double
  /// z: log odds of chosen minus log odds of rejected.
  package let logOddsRatio: Double
  /// How many of the two completions met the floor.
  package let saturatedCount: Int

  package init(chosenLogp: Double, rejectedLogp: Double) {
    self.chosenLogp = chosenLogp
    self.rejectedLogp = rejectedLogp
    let chosen = Self.complement(chosenLogp)
    let rejected = Self.complement(rejectedLogp)
    chosenComplement = chosen.value
    rejectedComplement = rejected.value
    logOddsRatio = (chosenLogp - rejectedLogp) - (chosen.logarithm - rejected.logarithm)
    saturatedCount = (chosen.isSaturated ? 1 : 0) + (rejected.isSaturated ? 1 : 0)
  }

  /// Derivatives of -logsigmoid(temperature * z) by the two mean log-probabilities.
  ///
  /// d log odds(a) / da = 1 + p / (1 - p) = 1 / (1 - p).
  package func derivatives(temperature: Double) -> (chosen: Double, rejected: Double) {
    let slope = temperature * sigmoid(-temperature * logOddsRatio)
    return (-slope / chosenComplement, slope / rejectedComplement)
  }

  private static func complement(_ logp: Double) -> (value: Double, logarithm: Double, isSaturated: Bool) {
    let value = -expm1(logp)
    guard value >= smallestComplement else { return (smallestComplement, log(smallestComplement), true) }
    // Below p = 1/2 the small number is e^a, above it is 1 - e^a: take the logarithm from whichever is exact.
    return (value, logp < -0.6931471805599453 ? log1p(-exp(logp)) : log(value), false)
  }
}

/// log(1 / (1 + e^-x)), without overflow at either end.
package func logSigmoid(_ x: Double) -> Double { min(x, 0) - log1p(exp(-abs(x))) }

/// 1 / (1 + e^-x), without overflow and exact in the tails.
package func sigmoid(_ x: Double) -> Double {
  let tail = exp(-abs(x))
  return (x >= 0 ? 1 : tail) / (1 + tail)
}
