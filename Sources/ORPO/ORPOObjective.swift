package import Packing

/// The odds-ratio preference objective (Hong, Lee and Thorne 2024, arXiv 2403.07691), as a map from token
/// log-probabilities to a loss, metrics and one weight per prediction.
///
/// For one pair, with `a` the mean log-probability of a completion and `odds(a) = e^a / (1 - e^a)`:
///
///     z    = log odds(a_chosen) - log odds(a_rejected)
///     loss = nllTokenWeight * sum(-logp of the NLL tokens) - oddsWeight * alpha * logsigmoid(temperature * z)
package struct ORPOObjective: Sendable, Equatable {
  /// Weight of the odds-ratio term: TRL's `beta`, the paper's lambda. 0 is plain supervised fine-tuning.
  package var alpha: Double
  /// Factor on the log odds ratio inside the sigmoid. 1 is the paper and TRL.
  package var temperature: Double
  package var nllTokens: NLLTokens

  package init(alpha: Double = 0.1, temperature: Double = 1, nllTokens: NLLTokens = .all) {
    self.alpha = alpha
    self.temperature = temperature
    self.nllTokens = nllTokens
  }

  /// What one pair counts for in the step's loss. Known before any forward pass, from lengths alone.
  package struct PairCoefficients: Sendable, Equatable {
    /// Coefficient of the negative log-probability of each NLL token.
    package var nllTokenWeight: Double
    /// Coefficient of the pair's odds-ratio term; 1 / (pairs in the step) for a mean over pairs.
    package var oddsWeight: Double

    package init(nllTokenWeight: Double, oddsWeight: Double) {
      self.nllTokenWeight = nllTokenWeight
      self.oddsWeight = oddsWeight
    }
  }

  /// Number of tokens of `pair` that the negative log-likelihood covers.
  package func nllTokenCount(of pair: TokenizedPair) -> Int {
    switch nllTokens {
    case .all: max(pair.chosen.count - 1, 0)
    case .completion: max(pair.chosen.count - max(pair.chosenPromptLength, 1), 0)
    }
  }

  /// Evaluates a micro-batch and writes the derivative of the step's loss by each prediction's log-probability.
  ///
  /// - Parameters:
  ///   - logProbs: `[predictions]`, log-probability of each label of `pairs`, in nats.
  ///   - coefficients: `[pairs]`.
  ///   - weights: `[predictions]`, overwritten. A prediction inside the shared prefix gets the sum of what both
  ///     sequences ask of it.
  /// - Returns: the micro-batch's share of the step's metrics; finite whenever `logProbs` is.
  package func evaluate(
    logProbs: UnsafeBufferPointer<Float>, pairs: PackedPairs, coefficients: [PairCoefficients],
    weights: UnsafeMutableBufferPointer<Float>
  ) -> ORPOMetrics {
    precondition(weights.count == pairs.predictionCount, "one weight per prediction")
    weights.update(repeating: 0)
    return evaluate(logProbs: logProbs, pairs: pairs, coefficients: coefficients) { range, value in
      let value = Float(value)
      for index in range { weights[index] += value }
    }
  }

  /// Evaluates a micro-batch without derivatives, for evaluation.
  package func evaluate(
    logProbs: UnsafeBufferPointer<Float>, pairs: PackedPairs, coefficients: [PairCoefficients]
  ) -> ORPOMetrics {
    evaluate(logProbs: logProbs, pairs: pairs, coefficients: coefficients) { _, _ in }
  }

  private func evaluate(
    logProbs: UnsafeBufferPointer<Float>, pairs: PackedPairs, coefficients: [PairCoefficients],
    addWeight: (Range<Int>, Double) -> Void
  ) -> ORPOMetrics {
    precondition(logProbs.count == pairs.predictionCount, "one log-probability per prediction")
    precondition(coefficients.count == pairs.pairs.count, "one set of coefficients per pair")
    var metrics = ORPOMetrics()
    for (pair, coefficient) in zip(pairs.pairs, coefficients) {
      let nll = pair.chosenTokens(fromPrediction: nllTokens == .all ? 0 : pair.chosenPromptPredictions)
      addWeight(nll.shared, -coefficient.nllTokenWeight)
      addWeight(nll.branch, -coefficient.nllTokenWeight)
      metrics.nll -= coefficient.nllTokenWeight * nll.sum(logProbs)

      let chosen = pair.chosenTokens(fromPrediction: pair.chosenPromptPredictions)
      let rejected = pair.rejectedTokens(fromPrediction: pair.rejectedPromptPredictions)
      // The only token of a one-token sequence is never predicted: such a completion has no odds, and its pair no odds
      // term.
      guard chosen.count > 0, rejected.count > 0 else { continue }
      let odds = PairOdds(
        chosenLogp: chosen.sum(logProbs) / Double(chosen.count),
        rejectedLogp: rejected.sum(logProbs) / Double(rejected.count))
      metrics.add(odds, oddsWeight: coefficient.oddsWeight, objective: self)

      let scale = coefficient.oddsWeight * alpha
      guard scale != 0 else { continue }
      let derivative = odds.derivatives(temperature: temperature)
      for (sequence, derivative) in [(chosen, derivative.chosen), (rejected, derivative.rejected)] {
        let weight = scale * derivative / Double(sequence.count)
        addWeight(sequence.shared, weight)
        addWeight(sequence.branch, weight)
      }
    }
    return metrics
  }
}

/// Some predictions of one sequence: those inside the shared prefix and those of its own branch.
struct SequencePredictions {
  var shared: Range<Int>
  var branch: Range<Int>

  var count: Int { shared.count + branch.count }

  /// Sum in fp64: long completions would lose digits in fp32.
  func sum(_ logProbs: UnsafeBufferPointer<Float>) -> Double {
    var sum = 0.0
    for index in shared { sum += Double(logProbs[index]) }
    for index in branch { sum += Double(logProbs[index]) }
    return sum
  }
}

extension PackedPairs.Pair {
  /// The chosen sequence's predictions from its `first`-th on.
  func chosenTokens(fromPrediction first: Int) -> SequencePredictions {
    predictions(of: chosenPredictions, from: first)
  }

  /// The rejected sequence's predictions from its `first`-th on.
  func rejectedTokens(fromPrediction first: Int) -> SequencePredictions {
    predictions(of: rejectedPredictions, from: first)
  }

  private func predictions(of branch: Range<Int>, from first: Int) -> SequencePredictions {
    SequencePredictions(
      shared: sharedPredictions.dropFirst(first), branch: branch.dropFirst(max(first - sharedPredictions.count, 0)))
  }
}
