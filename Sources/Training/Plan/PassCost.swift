package import Packing
import Preferences

/// What one forward and backward pass costs a rank: seconds that were measured on a few layers of a model's shape, and how
/// they grow with layers, rows and attention.
package struct PassCost: Sendable, Equatable {
  /// Seconds by rows, through measured points.
  package struct Curve: Sendable, Equatable {
    package struct Point: Sendable, Equatable {
      package var rows: Int
      package var seconds: Double

      package init(rows: Int, seconds: Double) {
        self.rows = rows
        self.seconds = seconds
      }
    }

    /// By ascending rows, none of them twice.
    package let points: [Point]

    /// - Precondition: there is a point, and every one has rows.
    package init(_ points: [Point]) {
      precondition(!points.isEmpty && points.allSatisfy { $0.rows > 0 })
      self.points = Dictionary(grouping: points, by: \.rows).map { rows, same in
        Point(rows: rows, seconds: same.reduce(0) { $0 + $1.seconds } / Double(same.count))
      }.sorted { $0.rows < $1.rows }
    }

    /// Straight between points; beyond the last in proportion to rows; below the first on the line through the first two,
    /// which meets no rows at or above zero: weights and their gradients are read and written for few rows too.
    package func seconds(rows: Int) -> Double {
      if rows == 0 { return 0 }
      let last = points[points.count - 1]
      if rows >= last.rows { return last.seconds * Double(rows) / Double(last.rows) }
      let upper = max(points.firstIndex { $0.rows >= rows } ?? 0, 1)
      guard points.count > 1 else { return last.seconds * Double(rows) / Double(last.rows) }
      let (a, b) = (points[upper - 1], points[upper])
      let value = a.seconds + (b.seconds - a.seconds) * Double(rows - a.rows) / Double(b.rows - a.rows)
      // A slope that noise has bent must not make few rows free, nor dearer than many.
      return rows < a.rows ? min(max(value, a.seconds * Double(rows) / Double(a.rows)), a.seconds) : value
    }

    func scaled(by factor: Double) -> Curve { Curve(points.map { Point(rows: $0.rows, seconds: $0.seconds * factor) }) }
  }

  package var layers: Int
  /// One layer without its attention, forward and backward.
  package var layer: Curve
  /// One layer's attention, forward and backward, for each row that a row attends to.
  package var perAttendedRow: Double
  /// Head, embedding and what else is outside the layers.
  package var outside: Curve
  /// Share of a layer's seconds that are backward.
  package var backwardShare: Double
  /// Seconds to update one parameter.
  package var perUpdatedParameter: Double

  package init(
    layers: Int, layer: Curve, perAttendedRow: Double, outside: Curve, backwardShare: Double,
    perUpdatedParameter: Double
  ) {
    self.layers = layers
    self.layer = layer
    self.perAttendedRow = perAttendedRow
    self.outside = outside
    self.backwardShare = backwardShare
    self.perUpdatedParameter = perUpdatedParameter
  }

  /// Seconds of one pass.
  ///
  /// - Parameter attendedRows: pairs of rows of which one attends to the other.
  package func seconds(rows: Int, attendedRows: Double) -> Double {
    Double(layers) * (layer.seconds(rows: rows) + perAttendedRow * attendedRows) + outside.seconds(rows: rows)
  }

  /// Seconds of the layers' backward pass: gradients become ready all along it.
  package func backwardSeconds(rows: Int, attendedRows: Double) -> Double {
    Double(layers) * (layer.seconds(rows: rows) + perAttendedRow * attendedRows) * backwardShare
  }

  /// The same work on `factor` times as many threads, all of them as fast.
  package func onThreads(times factor: Double) -> PassCost {
    var cost = self
    cost.layer = layer.scaled(by: 1 / factor)
    cost.outside = outside.scaled(by: 1 / factor)
    cost.perAttendedRow /= factor
    cost.perUpdatedParameter /= factor
    return cost
  }
}

/// What a pass's cost depends on.
package struct PassSize: Sendable, Equatable {
  package var rows = 0
  package var attendedRows = 0.0

  package init(rows: Int = 0, attendedRows: Double = 0) {
    self.rows = rows
    self.attendedRows = attendedRows
  }

  package init(_ pairs: some Sequence<TokenizedPair>) {
    let attended = PairCost(perRow: 0, perAttendedRow: 1)
    for pair in pairs {
      rows += pair.rowCount
      attendedRows += attended(pair)
    }
  }
}
