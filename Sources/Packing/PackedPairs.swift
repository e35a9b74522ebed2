/// A micro-batch: the rows of its pairs laid end to end, no padding, each pair as segments P | C | R.
///
/// P (prefix) is the longest common beginning of the two whole sequences, computed once; C and R are the rest of chosen
/// and rejected. A row is one input token; a *prediction* is (row, label): the last row of P carries up to two of them,
/// one for each branch. Predictions of a pair are contiguous: those inside P, then the chosen branch, then the rejected
/// branch.
package struct PackedPairs: Sendable {
  /// One pair's place in the micro-batch. Row ranges index `tokens`; prediction ranges index `labels` and
  /// `predictionRows`.
  package struct Pair: Sendable, Equatable {
    package var prefixRows: Range<Int>
    package var chosenRows: Range<Int>
    package var rejectedRows: Range<Int>
    /// Labels inside P: they belong to both sequences.
    package var sharedPredictions: Range<Int>
    package var chosenPredictions: Range<Int>
    package var rejectedPredictions: Range<Int>
    /// How many of the sequence's predictions (shared ones first, then its branch) have their label in the prompt.
    package var chosenPromptPredictions: Int
    package var rejectedPromptPredictions: Int

    package var rows: Range<Int> { prefixRows.lowerBound..<rejectedRows.upperBound }
    package var chosenPredictionCount: Int { sharedPredictions.count + chosenPredictions.count }
    package var rejectedPredictionCount: Int { sharedPredictions.count + rejectedPredictions.count }
    /// Completion tokens with a prediction: the `n` of "mean log-probability of the completion".
    package var chosenCompletionCount: Int { chosenPredictionCount - chosenPromptPredictions }
    package var rejectedCompletionCount: Int { rejectedPredictionCount - rejectedPromptPredictions }
  }

  package private(set) var tokens: [Int32] = []
  /// Position of each row in its sequence; those of R restart after P.
  package private(set) var positions: [Int32] = []
  /// Row that makes prediction i; ascending inside each of a pair's three parts.
  package private(set) var predictionRows: [Int32] = []
  /// Token that prediction i should give probability to.
  package private(set) var labels: [Int32] = []
  package private(set) var pairs: [Pair] = []

  package var rowCount: Int { tokens.count }
  package var predictionCount: Int { labels.count }

  package init(_ pairs: some Sequence<TokenizedPair>) {
    for pair in pairs { append(pair) }
  }

  private mutating func append(_ pair: TokenizedPair) {
    let shared = pair.sharedPrefixLength
    // Without a common first token there is no row to predict the first label of either branch.
    let firstLabel = max(shared, 1)
    let continues = pair.chosen.count > shared || pair.rejected.count > shared
    let prefix = appendRows(pair.chosen, 0..<(continues ? shared : max(shared - 1, 0)))
    let chosen = appendRows(pair.chosen, shared..<max(pair.chosen.count - 1, shared))
    let rejected = appendRows(pair.rejected, shared..<max(pair.rejected.count - 1, shared))

    let sharedPredictions = appendPredictions(pair.chosen, labels: min(1, shared)..<shared) {
      prefix.lowerBound + $0 - 1
    }
    func row(before label: Int, branch: Range<Int>) -> Int {
      label - 1 < shared ? prefix.lowerBound + label - 1 : branch.lowerBound + label - 1 - shared
    }
    let chosenPredictions = appendPredictions(pair.chosen, labels: firstLabel..<max(pair.chosen.count, firstLabel)) {
      row(before: $0, branch: chosen)
    }
    let rejectedPredictions = appendPredictions(
      pair.rejected, labels: firstLabel..<max(pair.rejected.count, firstLabel)
    ) {
      row(before: $0, branch: rejected)
    }
    self.pairs.append(
      Pair(
        prefixRows: prefix, chosenRows: chosen, rejectedRows: rejected, sharedPredictions: sharedPredictions,
        chosenPredictions: chosenPredictions, rejectedPredictions: rejectedPredictions,
        // The prediction of token 0 does not exist, hence one less than the prompt's length.
        chosenPromptPredictions: max(pair.chosenPromptLength - 1, 0),
        rejectedPromptPredictions: max(pair.rejectedPromptLength - 1, 0)))
  }

  private mutating func appendRows(_ sequence: [Int32], _ range: Range<Int>) -> Range<Int> {
    let start = tokens.count
    tokens.append(contentsOf: sequence[range])
    positions.append(contentsOf: range.lazy.map(Int32.init))
    return start..<tokens.count
  }

  private mutating func appendPredictions(
    _ sequence: [Int32], labels range: Range<Int>, row: (Int) -> Int
  ) -> Range<Int> {
    let start = labels.count
    // The empty range after an empty sequence begins beyond its end.
    if range.isEmpty { return start..<start }
    labels.append(contentsOf: sequence[range])
    predictionRows.append(contentsOf: range.map { Int32(row($0)) })
    return start..<labels.count
  }
}
