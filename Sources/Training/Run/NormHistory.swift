/// Gradient norms of the last steps, for telling one that cannot be: a flipped bit in a number's exponent makes it larger by
/// 38 orders of magnitude and need not make it infinite.
package struct NormHistory: Sendable, Equatable {
  /// Steps that are looked back at, and how many it takes to judge.
  private static let length = 32
  private static let least = 8
  /// Far beyond what a hard batch does to a norm.
  package static let factor = 1e4

  /// Oldest first.
  package private(set) var values: [Double] = []

  package init(_ values: [Double] = []) { self.values = Array(values.filter(\.isFinite).suffix(Self.length)) }

  package mutating func add(_ norm: Double) { self = NormHistory(values + [norm]) }

  /// The largest norm a step may have; infinite while there are too few to compare with.
  package var limit: Double {
    guard values.count >= Self.least else { return .infinity }
    let median = values.sorted()[values.count / 2]
    return median > 0 ? Self.factor * median : .infinity
  }
}
