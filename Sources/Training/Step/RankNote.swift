/// What each rank tells all others in the reduction that ends a step.
package struct RankNote: Sendable, Equatable {
  package var asksToStop: Bool
  /// Of its own gradients, before they were summed.
  package var gradientNorm: Double
  /// Of computing, waiting for others left out.
  package var seconds: Double

  static let none = RankNote(asksToStop: false, gradientNorm: 0, seconds: 0)

  init(asksToStop: Bool, gradientNorm: Double, seconds: Double) {
    self.asksToStop = asksToStop
    self.gradientNorm = gradientNorm
    self.seconds = seconds
  }

  var values: [Double] { [asksToStop ? 1 : 0, gradientNorm, seconds] }

  init(values: [Double], rank: Int) {
    self.init(asksToStop: values[3 * rank] > 0, gradientNorm: values[3 * rank + 1], seconds: values[3 * rank + 2])
  }
}
