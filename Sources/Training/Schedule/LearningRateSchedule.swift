import Foundation

/// Learning rate of every optimizer step, as the schedules of transformers' optimization.py compute it.
package struct LearningRateSchedule: Sendable, Equatable {
  package enum Kind: String, Sendable, CaseIterable {
    case linear
    case cosine
    case constant
    case constantWithWarmup = "constant_with_warmup"
    case inverseSqrt = "inverse_sqrt"
    case cosineWithMinLR = "cosine_with_min_lr"
  }

  package var kind: Kind
  /// The rate that the shares below multiply.
  package var peak: Double
  package var warmupSteps: Int
  package var totalSteps: Int
  /// Where `cosineWithMinLR` ends, as a share of `peak`.
  package var minimumShare: Double
  /// Of `inverseSqrt`; nil: the warm-up steps, or 10000 without warm-up.
  package var timescale: Int?

  package init(
    kind: Kind, peak: Double, warmupSteps: Int, totalSteps: Int, minimumShare: Double = 0, timescale: Int? = nil
  ) {
    self.kind = kind
    self.peak = peak
    self.warmupSteps = warmupSteps
    self.totalSteps = totalSteps
    self.minimumShare = minimumShare
    self.timescale = timescale
  }

  /// The rate that step `step` uses, counted from 0: with warm-up the first step's is 0.
  package subscript(step: Int) -> Double { peak * share(at: step) }

  private func share(at step: Int) -> Double {
    if kind == .constant { return 1 }
    if step < warmupSteps { return Double(step) / Double(max(1, warmupSteps)) }
    let decaySteps = Double(max(1, totalSteps - warmupSteps))
    switch kind {
    case .constant, .constantWithWarmup: return 1
    case .linear: return max(0, Double(totalSteps - step) / decaySteps)
    case .cosine, .cosineWithMinLR:
      let progress = Double(step - warmupSteps) / decaySteps
      let falling = 0.5 * (1 + cos(.pi * progress))
      let floor = kind == .cosineWithMinLR ? minimumShare : 0
      return max(0, falling * (1 - floor) + floor)
    case .inverseSqrt:
      let timescale = timescale ?? (warmupSteps == 0 ? 10_000 : warmupSteps)
      let shift = timescale - warmupSteps
      return 1 / (Double(step + shift) / Double(timescale)).squareRoot()
    }
  }
}
