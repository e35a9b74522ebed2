package import Packing

/// What the sampler needs to know of a pair: the work it causes and the tokens its loss averages over.
package struct PairMeasure: Sendable, Equatable {
  /// Rows the decoder computes.
  package var rows: Int
  /// Predictions of the chosen sequence: every token but the first.
  package var chosenTokens: Int
  /// Predictions of the chosen sequence whose label is in the completion.
  package var chosenCompletionTokens: Int
  /// Work in any unit; only ratios matter.
  package var cost: Double

  package init(rows: Int, chosenTokens: Int, chosenCompletionTokens: Int, cost: Double) {
    self.rows = rows
    self.chosenTokens = chosenTokens
    self.chosenCompletionTokens = chosenCompletionTokens
    self.cost = cost
  }

  package init(_ pair: TokenizedPair, cost: (TokenizedPair) -> Double) {
    self.init(
      rows: pair.rowCount, chosenTokens: pair.chosen.count - 1,
      chosenCompletionTokens: pair.chosen.count - max(pair.chosenPromptLength, 1), cost: cost(pair))
  }

  package init(_ pair: TokenizedPair, cost: PairCost) { self.init(pair) { cost($0) } }
}

/// Floating-point work of a pair: linear in its rows, and quadratic where rows attend to rows.
package struct PairCost: Sendable {
  /// Work of one row outside attention.
  package var perRow: Double
  /// Work of one row attending to one row.
  package var perAttendedRow: Double

  package init(perRow: Double, perAttendedRow: Double) {
    self.perRow = perRow
    self.perAttendedRow = perAttendedRow
  }

  /// A decoder's work: 2 operations forward and 4 backward for each parameter of a matrix a row meets, and for each
  /// attended row the two products (query with key, weight with value) over all query heads.
  package init(matrixParameters: Int, layers: Int, queryHeads: Int, headDim: Int) {
    perRow = 6 * Double(matrixParameters)
    perAttendedRow = 12 * Double(layers) * Double(queryHeads) * Double(headDim)
  }

  package func callAsFunction(_ pair: TokenizedPair) -> Double {
    let prefix = Double(pair.sharedPrefixLength)
    let branches = [pair.chosen.count, pair.rejected.count].map { max(Double($0) - prefix - 1, 0) }
    // P attends to itself, each branch to P and to itself, all causally.
    let attended = branches.reduce(prefix * (prefix + 1) / 2) { $0 + $1 * prefix + $1 * ($1 + 1) / 2 }
    return perRow * Double(pair.rowCount) + perAttendedRow * attended
  }
}
