/// One metric over the steps of a run, in bounded memory: where there are too many values, neighbours are put together
/// into a mean with the smallest and the largest value beside it.
package struct Curve: Sendable, Equatable {
  package struct Point: Sendable, Equatable {
    package var firstStep: Int
    package var lastStep: Int
    package var sum: Double
    package var count: Int
    package var least: Double
    package var most: Double

    package var step: Double { Double(firstStep) + Double(lastStep - firstStep) / 2 }
    package var mean: Double { sum / Double(count) }
  }

  package private(set) var points: [Point] = []
  /// Steps whose value was not finite.
  package private(set) var gaps = 0
  package private(set) var last: (step: Int, value: Double)?
  private var valuesPerPoint = 1
  private let limit: Int

  /// - Parameter limit: the most points that are kept.
  package init(limit: Int = 1024) { self.limit = max(limit, 2) }

  /// Values come in the order of their steps; one of an earlier step than the last is not taken.
  package mutating func add(step: Int, value: Double) {
    guard step >= 0, step > last?.step ?? -1 else { return }
    last = (step, value)
    // So large a number is damage, and its sum would not be finite.
    guard value.isFinite, value.magnitude < 1e100 else {
      gaps += 1
      return
    }
    if let end = points.indices.last, points[end].count < valuesPerPoint {
      points[end].lastStep = step
      points[end].sum += value
      points[end].count += 1
      points[end].least = min(points[end].least, value)
      points[end].most = max(points[end].most, value)
      return
    }
    if points.count == limit { halve() }
    points.append(Point(firstStep: step, lastStep: step, sum: value, count: 1, least: value, most: value))
  }

  private mutating func halve() {
    points = stride(from: 0, to: points.count, by: 2).map { index in
      var point = points[index]
      guard index + 1 < points.count else { return point }
      let next = points[index + 1]
      point.lastStep = next.lastStep
      point.sum += next.sum
      point.count += next.count
      point.least = min(point.least, next.least)
      point.most = max(point.most, next.most)
      return point
    }
    valuesPerPoint *= 2
  }

  package var range: ClosedRange<Double>? {
    guard let least = points.map(\.least).min(), let most = points.map(\.most).max() else { return nil }
    return least...most
  }

  package static func == (a: Curve, b: Curve) -> Bool {
    a.points == b.points && a.gaps == b.gaps && a.valuesPerPoint == b.valuesPerPoint && a.limit == b.limit
  }
}
