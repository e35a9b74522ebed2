/// Sums over the pairs of micro-batches, to be added over micro-batches and ranks and then named.
///
/// `nll` and `oddsLoss` carry their coefficients already, so their sum over a whole step is the step's value;
/// everything else is a plain sum over pairs.
package struct ORPOMetrics: Sendable, Equatable {
  /// Share of the step's negative log-likelihood.
  package var nll = 0.0
  /// Share of the step's odds-ratio loss: -alpha * logsigmoid(temperature * z), weighted.
  package var oddsLoss = 0.0
  /// logsigmoid(z).
  package var logOddsRatio = 0.0
  /// z.
  package var logOddsChosen = 0.0
  /// alpha * mean log-probability of the completion.
  package var chosenRewards = 0.0
  package var rejectedRewards = 0.0
  /// Pairs whose chosen reward is strictly greater than the rejected one.
  package var accuracies = 0.0
  package var margins = 0.0
  /// Mean log-probability of the completion.
  package var chosenLogps = 0.0
  package var rejectedLogps = 0.0
  package var pairCount = 0.0
  /// Completions so certain that 1 - p met its floor (`PairOdds.smallestComplement`).
  package var saturatedCount = 0.0

  package init() {}

  /// Share of the step's loss.
  package var loss: Double { nll + oddsLoss }

  mutating func add(_ odds: PairOdds, oddsWeight: Double, objective: ORPOObjective) {
    let chosenReward = objective.alpha * odds.chosenLogp
    let rejectedReward = objective.alpha * odds.rejectedLogp
    oddsLoss -= oddsWeight * objective.alpha * logSigmoid(objective.temperature * odds.logOddsRatio)
    logOddsRatio += logSigmoid(odds.logOddsRatio)
    logOddsChosen += odds.logOddsRatio
    chosenRewards += chosenReward
    rejectedRewards += rejectedReward
    accuracies += chosenReward > rejectedReward ? 1 : 0
    margins += chosenReward - rejectedReward
    chosenLogps += odds.chosenLogp
    rejectedLogps += odds.rejectedLogp
    pairCount += 1
    saturatedCount += Double(odds.saturatedCount)
  }
}

// MARK: - Reduction

extension ORPOMetrics {
  /// Number of values in `values`.
  package static let valueCount = fields.count

  private static var fields: [WritableKeyPath<ORPOMetrics, Double>] {
    [
      \.nll, \.oddsLoss, \.logOddsRatio, \.logOddsChosen, \.chosenRewards, \.rejectedRewards, \.accuracies, \.margins,
      \.chosenLogps, \.rejectedLogps, \.pairCount, \.saturatedCount,
    ]
  }

  /// Everything as `valueCount` numbers, so that one reduction over ranks carries it.
  package var values: [Double] { Self.fields.map { self[keyPath: $0] } }

  /// From the sums of `values` over ranks.
  package init(values: some Collection<Double>) {
    precondition(values.count == Self.valueCount, "\(Self.valueCount) values make the metrics")
    for (field, value) in zip(Self.fields, values) { self[keyPath: field] = value }
  }

  package static func += (sum: inout ORPOMetrics, other: ORPOMetrics) {
    for field in fields { sum[keyPath: field] += other[keyPath: field] }
  }

  package static func + (sum: ORPOMetrics, other: ORPOMetrics) -> ORPOMetrics {
    var result = sum
    result += other
    return result
  }
}

// MARK: - Names

extension ORPOMetrics {
  /// The logged means under TRL's names, in the order they are logged.
  ///
  /// `self` is the sum over all micro-batches and ranks of `steps` optimizer steps (or of one pass over the evaluation
  /// pairs). `log_odds_ratio` is logsigmoid(z) and `log_odds_chosen` is z, both without alpha and, also when the
  /// temperature is not 1, without the temperature, so that runs with different settings can be compared; `loss`
  /// contains both.
  ///
  /// - Parameter prefix: `eval_` for evaluation.
  package func named(prefix: String = "", steps: Int = 1) -> [(name: String, value: Double)] {
    let steps = Double(max(steps, 1))
    let pairs = max(pairCount, 1)
    return [
      ("loss", loss / steps),
      ("nll_loss", nll / steps),
      ("log_odds_ratio", logOddsRatio / pairs),
      ("log_odds_chosen", logOddsChosen / pairs),
      ("rewards/chosen", chosenRewards / pairs),
      ("rewards/rejected", rejectedRewards / pairs),
      ("rewards/accuracies", accuracies / pairs),
      ("rewards/margins", margins / pairs),
      ("logps/chosen", chosenLogps / pairs),
      ("logps/rejected", rejectedLogps / pairs),
    ].map { (prefix + $0.0, $0.1) }
  }
}
