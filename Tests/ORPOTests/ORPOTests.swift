import Foundation
import JSON
import ORPO
import Packing
import Testing

@Suite struct PairOddsTests {
  @Test func agreesWithTRL() throws {
    let golden = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appending(path: "Golden/odds.json")
    let cases = try #require(try JSONValue(parsing: Array(Data(contentsOf: golden))).array)
    #expect(cases.count == 40)
    for golden in cases {
      for (precision, tolerance) in [("fp64", 1e-12), ("fp32", 2e-5)] {
        func value(_ name: String) throws -> Double { try #require(golden[precision]?[name]?.double) }
        let beta = try #require(golden["beta"]?.double)
        let odds = PairOdds(
          chosenLogp: try #require(golden["chosen"]?.double), rejectedLogp: try #require(golden["rejected"]?.double))
        let derivatives = odds.derivatives(temperature: 1)
        let found = [
          ("loss", -beta * logSigmoid(odds.logOddsRatio)), ("log_odds_ratio", logSigmoid(odds.logOddsRatio)),
          ("log_odds_chosen", odds.logOddsRatio), ("reward_chosen", beta * odds.chosenLogp),
          ("reward_rejected", beta * odds.rejectedLogp), ("d_chosen", beta * derivatives.chosen),
          ("d_rejected", beta * derivatives.rejected),
        ]
        for (name, found) in found {
          let expected = try value(name)
          #expect(isClose(found, expected, relative: tolerance), "\(precision) \(name) of \(golden.serialized())")
        }
      }
    }
  }

  @Test(arguments: [0.1, 1.0, 2.5]) func derivativesAreThoseOfTheLoss(temperature: Double) {
    var random = SplitMix(state: 7)
    func loss(_ chosen: Double, _ rejected: Double) -> Double {
      -logSigmoid(temperature * PairOdds(chosenLogp: chosen, rejectedLogp: rejected).logOddsRatio)
    }
    for _ in 0..<2000 {
      let chosen = -exp(random.uniform(-4...2.3))
      let rejected = -exp(random.uniform(-4...2.3))
      let derivatives = PairOdds(chosenLogp: chosen, rejectedLogp: rejected).derivatives(temperature: temperature)
      let (h, k) = (1e-5 * -chosen, 1e-5 * -rejected)
      let dChosen = (loss(chosen + h, rejected) - loss(chosen - h, rejected)) / (2 * h)
      let dRejected = (loss(chosen, rejected + k) - loss(chosen, rejected - k)) / (2 * k)
      // The difference quotient itself is good to about rounding / step.
      #expect(isClose(derivatives.chosen, dChosen, relative: 1e-6, absolute: 1e-11 / h))
      #expect(isClose(derivatives.rejected, dRejected, relative: 1e-6, absolute: 1e-11 / k))
    }
  }

  @Test func certaintyIsFiniteAndCounted() {
    let logps = [1e-9, 0, -1e-12, -1e-9, -5e-8, -7e-8, -0.5, -700, -1e4, -1e30]
    for chosen in logps {
      for rejected in logps {
        let odds = PairOdds(chosenLogp: chosen, rejectedLogp: rejected)
        let derivatives = odds.derivatives(temperature: 1)
        #expect(odds.logOddsRatio.isFinite && derivatives.chosen.isFinite && derivatives.rejected.isFinite)
        #expect(derivatives.chosen <= 0 && derivatives.rejected >= 0)
        #expect(logSigmoid(odds.logOddsRatio).isFinite)
        #expect(odds.saturatedCount == [chosen, rejected].count { $0 > -5.9e-8 })
      }
    }
    #expect(PairOdds(chosenLogp: 0, rejectedLogp: 0).logOddsRatio == 0)
  }

  @Test func sigmoidsHoldInTheTails() {
    #expect(sigmoid(-800) == 0 && sigmoid(800) == 1 && sigmoid(0) == 0.5)
    #expect(sigmoid(-700) > 0 && isClose(sigmoid(-40), exp(-40), relative: 1e-14))
    #expect(logSigmoid(-1e30) == -1e30 && logSigmoid(1e30) == 0)
    #expect(isClose(logSigmoid(40), -exp(-40), relative: 1e-14))
  }
}

@Suite struct ORPOObjectiveTests {
  /// Prefixes shorter than, equal to and longer than the prompt; one-token completions; a first token that differs.
  static let pairs = [
    TokenizedPair(
      chosen: [1, 2, 3, 4, 5, 6], rejected: [1, 2, 3, 7, 8], chosenPromptLength: 3, rejectedPromptLength: 3),
    TokenizedPair(
      chosen: [1, 2, 3, 4, 5, 6], rejected: [1, 2, 3, 4, 5, 7], chosenPromptLength: 2, rejectedPromptLength: 2),
    TokenizedPair(chosen: [1, 2, 9], rejected: [1, 2, 3, 4], chosenPromptLength: 2, rejectedPromptLength: 3),
    TokenizedPair(chosen: [1, 5], rejected: [1, 6, 7, 8, 9], chosenPromptLength: 1, rejectedPromptLength: 1),
    TokenizedPair(chosen: [4, 5, 6], rejected: [7, 6], chosenPromptLength: 0, rejectedPromptLength: 0),
    TokenizedPair(chosen: [1, 2, 3, 4], rejected: [1, 2, 3, 4, 5], chosenPromptLength: 1, rejectedPromptLength: 1),
  ]

  static let objectives = [
    ORPOObjective(), ORPOObjective(alpha: 1, temperature: 0.1),
    ORPOObjective(alpha: 0.5, temperature: 3, nllTokens: .completion),
    ORPOObjective(alpha: 0), ORPOObjective(alpha: 0, nllTokens: .completion),
  ]

  /// The definition, sequence by sequence, without packing: the log-probability of token t is found through `logp`.
  static func plainLoss(
    _ objective: ORPOObjective, _ coefficients: [ORPOObjective.PairCoefficients],
    logp: (_ pair: Int, _ isChosen: Bool, _ token: Int) -> Double
  ) -> Double {
    var total = 0.0
    for (index, (pair, coefficient)) in zip(pairs, coefficients).enumerated() {
      func mean(_ isChosen: Bool) -> Double {
        let (tokens, prompt) =
          isChosen ? (pair.chosen, pair.chosenPromptLength) : (pair.rejected, pair.rejectedPromptLength)
        let completion = max(prompt, 1)..<tokens.count
        return completion.reduce(0) { $0 + logp(index, isChosen, $1) } / Double(completion.count)
      }
      let first = objective.nllTokens == .all ? 1 : max(pair.chosenPromptLength, 1)
      let nll = (first..<pair.chosen.count).reduce(0) { $0 - logp(index, true, $1) }
      let (chosen, rejected) = (mean(true), mean(false))
      let z = (chosen - rejected) - (log(1 - exp(chosen)) - log(1 - exp(rejected)))
      total += coefficient.nllTokenWeight * nll
      total -= coefficient.oddsWeight * objective.alpha * log(1 / (1 + exp(-objective.temperature * z)))
    }
    return total
  }

  /// The prediction of token `token` of a sequence.
  static func prediction(_ packed: PackedPairs, pair: Int, isChosen: Bool, token: Int) -> Int {
    let pair = packed.pairs[pair]
    let branch = isChosen ? pair.chosenPredictions : pair.rejectedPredictions
    let ordinal = token - 1
    return ordinal < pair.sharedPredictions.count
      ? pair.sharedPredictions.lowerBound + ordinal : branch.lowerBound + ordinal - pair.sharedPredictions.count
  }

  @Test(arguments: objectives) func weightsAreTheDerivativesOfThePlainLoss(objective: ORPOObjective) {
    let packed = PackedPairs(Self.pairs)
    var random = SplitMix(state: 11)
    for _ in 0..<40 {
      let logProbs = (0..<packed.predictionCount).map { _ in Float(-exp(random.uniform(-3...1.5))) }
      let coefficients = Self.pairs.map { _ in
        ORPOObjective.PairCoefficients(
          nllTokenWeight: random.uniform(0.01...0.3), oddsWeight: random.uniform(0.1...0.5))
      }
      let (metrics, weights) = evaluate(objective, logProbs, packed, coefficients)
      func loss(moved: Int, by step: Double) -> Double {
        Self.plainLoss(objective, coefficients) { pair, isChosen, token in
          let prediction = Self.prediction(packed, pair: pair, isChosen: isChosen, token: token)
          return Double(logProbs[prediction]) + (prediction == moved ? step : 0)
        }
      }
      #expect(isClose(metrics.loss, loss(moved: 0, by: 0), relative: 1e-12))
      for (prediction, weight) in weights.enumerated() {
        let difference = (loss(moved: prediction, by: 1e-5) - loss(moved: prediction, by: -1e-5)) / 2e-5
        #expect(isClose(Double(weight), difference, relative: 1e-5, absolute: 1e-7), "prediction \(prediction)")
      }
    }
  }

  @Test(arguments: objectives) func microBatchesAddUp(objective: ORPOObjective) {
    var random = SplitMix(state: 3)
    let coefficients = Self.pairs.map { _ in
      ORPOObjective.PairCoefficients(nllTokenWeight: random.uniform(0.01...0.3), oddsWeight: 1.0 / 6)
    }
    let whole = PackedPairs(Self.pairs)
    let logProbs = (0..<whole.predictionCount).map { _ in Float(-exp(random.uniform(-3...1.5))) }
    let expected = evaluate(objective, logProbs, whole, coefficients)
    for split in 0...Self.pairs.count {
      var sum = ORPOMetrics()
      var weights: [Float] = []
      for part in [0..<split, split..<Self.pairs.count] {
        let packed = PackedPairs(Self.pairs[part])
        let slice = Array(logProbs[weights.count..<weights.count + packed.predictionCount])
        let result = evaluate(objective, slice, packed, Array(coefficients[part]))
        sum += ORPOMetrics(values: result.metrics.values)
        weights += result.weights
      }
      #expect(weights == expected.weights)
      for (found, expected) in zip(sum.values, expected.metrics.values) {
        #expect(isClose(found, expected, relative: 1e-13))
      }
    }
  }

  @Test func weightsAreZeroWhereNothingIsAsked() {
    let packed = PackedPairs(Self.pairs)
    let logProbs = [Float](repeating: -1.25, count: packed.predictionCount)
    let coefficients = Self.pairs.map { _ in ORPOObjective.PairCoefficients(nllTokenWeight: 0.125, oddsWeight: 0.25) }

    let all = evaluate(ORPOObjective(alpha: 0), logProbs, packed, coefficients).weights
    for pair in packed.pairs {
      #expect(pair.sharedPredictions.allSatisfy { all[$0] == -0.125 })
      #expect(pair.chosenPredictions.allSatisfy { all[$0] == -0.125 })
      #expect(pair.rejectedPredictions.allSatisfy { all[$0] == 0 })
    }

    let completion = evaluate(ORPOObjective(alpha: 1, nllTokens: .completion), logProbs, packed, coefficients).weights
    for (pair, tokens) in zip(packed.pairs, Self.pairs) {
      let prompt = max(min(tokens.chosenPromptLength, tokens.rejectedPromptLength) - 1, 0)
      #expect(pair.sharedPredictions.prefix(prompt).allSatisfy { completion[$0] == 0 })
      #expect(
        pair.chosenPredictions.dropFirst(max(pair.chosenPromptPredictions - pair.sharedPredictions.count, 0))
          .allSatisfy { completion[$0] < 0 })
      #expect(
        pair.rejectedPredictions.dropFirst(max(pair.rejectedPromptPredictions - pair.sharedPredictions.count, 0))
          .allSatisfy { completion[$0] > 0 })
    }
    // A rejected prompt that is longer than the chosen one: its last prompt token is predicted in the rejected branch,
    // for nothing.
    let longer = packed.pairs[2]
    #expect(longer.rejectedPromptPredictions == 2 && longer.sharedPredictions.count == 1)
    #expect(completion[longer.rejectedPredictions.lowerBound] == 0)

    let untouched = evaluate(
      ORPOObjective(), logProbs, packed, Self.pairs.map { _ in .init(nllTokenWeight: 0, oddsWeight: 0) })
    #expect(untouched.weights.allSatisfy { $0 == 0 } && untouched.metrics.loss == 0)
  }

  @Test(arguments: [0, -1e-9, -1e-7, -0.6931472, -1e4, -3e38] as [Float])
  func extremesStayFinite(logp: Float) {
    let packed = PackedPairs(Self.pairs)
    let coefficients = Self.pairs.map { _ in ORPOObjective.PairCoefficients(nllTokenWeight: 0.1, oddsWeight: 1) }
    for other in [0, -1e-9, -2, -1e4] as [Float] {
      var logProbs = [Float](repeating: other, count: packed.predictionCount)
      for pair in packed.pairs { for index in pair.chosenPredictions { logProbs[index] = logp } }
      for objective in Self.objectives {
        let (metrics, weights) = evaluate(objective, logProbs, packed, coefficients)
        #expect(weights.allSatisfy(\.isFinite) && metrics.values.allSatisfy(\.isFinite))
      }
    }
    let certain = evaluate(ORPOObjective(), [Float](repeating: 0, count: packed.predictionCount), packed, coefficients)
    #expect(certain.metrics.saturatedCount == 12 && certain.metrics.pairCount == 6 && certain.metrics.accuracies == 0)
  }

  @Test func aSequenceWithoutPredictionsHasNoOddsTerm() {
    let packed = PackedPairs([
      TokenizedPair(chosen: [1, 2, 3], rejected: [4], chosenPromptLength: 0, rejectedPromptLength: 0)
    ])
    let (metrics, weights) = evaluate(
      ORPOObjective(alpha: 1), [-1, -2], packed, [.init(nllTokenWeight: 0.5, oddsWeight: 1)])
    #expect(metrics.loss == 1.5 && metrics.pairCount == 0 && weights == [-0.5, -0.5])
    #expect(metrics.named().allSatisfy { $0.value.isFinite })
  }

  @Test func sumsOfLongCompletionsKeepTheirDigits() {
    let count = 100_000
    let packed = PackedPairs([
      TokenizedPair(
        chosen: [1] + [Int32](repeating: 2, count: count), rejected: [1, 3], chosenPromptLength: 1,
        rejectedPromptLength: 1)
    ])
    var logProbs = [Float](repeating: -1.1, count: packed.predictionCount)
    logProbs[count] = -2
    let metrics = evaluate(
      ORPOObjective(), logProbs, packed, [.init(nllTokenWeight: 1 / Double(count), oddsWeight: 1)]
    ).metrics
    #expect(isClose(metrics.chosenLogps, Double(Float(-1.1)), relative: 1e-11))
    #expect(isClose(metrics.nll, -Double(Float(-1.1)), relative: 1e-11))
  }

  @Test func nllTokensAreCountedAsTheyAreWeighted() {
    for nllTokens in NLLTokens.allCases {
      let objective = ORPOObjective(alpha: 0, nllTokens: nllTokens)
      for pair in Self.pairs {
        let packed = PackedPairs([pair])
        let weights = evaluate(
          objective, [Float](repeating: -1, count: packed.predictionCount), packed,
          [.init(nllTokenWeight: 1, oddsWeight: 1)]
        ).weights
        #expect(objective.nllTokenCount(of: pair) == weights.count { $0 == -1 })
      }
    }
  }

  @Test func namesAndMeansAreTRLs() {
    let packed = PackedPairs(Self.pairs[0..<2])
    var logProbs = [Float](repeating: -1, count: packed.predictionCount)
    for index in packed.pairs[0].rejectedPredictions { logProbs[index] = -3 }
    let metrics = evaluate(
      ORPOObjective(alpha: 0.5), logProbs, packed,
      Self.pairs[0..<2].map { _ in .init(nllTokenWeight: 0.1, oddsWeight: 0.5) }
    ).metrics
    let named = metrics.named(prefix: "eval_")
    #expect(
      named.map(\.name) == [
        "eval_loss", "eval_nll_loss", "eval_log_odds_ratio", "eval_log_odds_chosen", "eval_rewards/chosen",
        "eval_rewards/rejected", "eval_rewards/accuracies", "eval_rewards/margins", "eval_logps/chosen",
        "eval_logps/rejected",
      ])
    let values = Dictionary(uniqueKeysWithValues: metrics.named().map { ($0.name, $0.value) })
    #expect(values["rewards/accuracies"] == 0.5 && values["rewards/margins"] == 0.5)
    #expect(values["logps/chosen"] == -1 && values["logps/rejected"] == -2 && values["rewards/rejected"] == -1)
    let twice = metrics + metrics
    for (once, twice) in zip(metrics.named(), twice.named(steps: 2)) {
      #expect(isClose(once.value, twice.value, relative: 1e-15))
    }
  }
}

func evaluate(
  _ objective: ORPOObjective, _ logProbs: [Float], _ packed: PackedPairs,
  _ coefficients: [ORPOObjective.PairCoefficients]
) -> (metrics: ORPOMetrics, weights: [Float]) {
  // Whatever was in the buffer must be gone afterwards.
  var weights = [Float](repeating: .nan, count: packed.predictionCount)
  let metrics = logProbs.withUnsafeBufferPointer { logProbs in
    weights.withUnsafeMutableBufferPointer { weights in
      objective.evaluate(logProbs: logProbs, pairs: packed, coefficients: coefficients, weights: weights)
    }
  }
  let withoutWeights = logProbs.withUnsafeBufferPointer {
    objective.evaluate(logProbs: $0, pairs: packed, coefficients: coefficients)
  }
  #expect(withoutWeights == metrics)
  return (metrics, weights)
}

func isClose(_ found: Double, _ expected: Double, relative: Double, absolute: Double = 0) -> Bool {
  abs(found - expected) <= max(relative * max(abs(found), abs(expected)), absolute)
}

/// A small seeded generator, so that a failing case can be run again.
struct SplitMix: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var value = state
    value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
    value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
    return value ^ (value >> 31)
  }

  mutating func uniform(_ range: ClosedRange<Double>) -> Double { Double.random(in: range, using: &self) }
}
