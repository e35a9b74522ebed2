import Packing
import Preferences
import Testing

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

@Suite struct GlobalBatchSamplerTests {
  /// Pairs with log-normal lengths, cut at 1024 tokens a sequence as real data is.
  static func pairs(_ count: Int) -> [TokenizedPair] {
    var state: UInt64 = 42
    func uniform() -> Double {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return (Double(state >> 11) + 0.5) * 0x1p-53
    }
    func length(_ median: Double, _ spread: Double, _ limit: Int) -> Int {
      let normal = (-2 * log(uniform())).squareRoot() * cos(2 * .pi * uniform())
      return min(max(Int(median * exp(spread * normal)), 2), limit)
    }
    return (0..<count).map { _ in
      let prompt = length(150, 1, 512)
      let chosen = prompt + length(300, 0.7, 1024 - prompt)
      let rejected = prompt + length(250, 0.7, 1024 - prompt)
      return TokenizedPair(
        chosen: (0..<chosen).map { Int32($0) }, rejected: (0..<rejected).map { Int32($0 < prompt ? $0 : -$0) },
        chosenPromptLength: prompt, rejectedPromptLength: prompt)
    }
  }

  /// SmolLM2-135M's matrices.
  static let cost = PairCost(matrixParameters: 134_000_000, layers: 30, queryHeads: 9, headDim: 64)
  static let measures = pairs(1000).map { PairMeasure($0, cost: cost) }

  static func sampler(
    _ count: Int, _ shape: BatchShape, seed: UInt64 = 3, shuffle: Bool = true,
    _ normalization: LossNormalization = .pair,
    _ nllTokens: NLLTokens = .all
  ) -> GlobalBatchSampler {
    GlobalBatchSampler(
      measures: Array(measures.prefix(count)), shape: shape, seed: seed, shuffle: shuffle, normalization: normalization,
      nllTokens: nllTokens)
  }

  @Test(arguments: 1...8, [7, 37, 100]) func eachPairOccursOnceAnEpoch(_ worldSize: Int, _ count: Int) {
    let sampler = Self.sampler(count, BatchShape(perDevice: 2, accumulation: 3, worldSize: worldSize))
    let globalBatch = 6 * worldSize
    #expect(sampler.stepsPerEpoch == (count + globalBatch - 1) / globalBatch)
    for epoch in 0..<3 {
      var taken: [Int] = []
      for batch in 0..<sampler.stepsPerEpoch {
        let plan = sampler.plan(step: epoch * sampler.stepsPerEpoch + batch)
        let isLast = batch == sampler.stepsPerEpoch - 1
        #expect(plan.pairCount == (isLast ? count - batch * globalBatch : globalBatch))
        #expect(plan.parts.count == worldSize)
        #expect(plan.parts.flatMap { $0 }.sorted() == plan.pairs.sorted())
        taken += plan.pairs
      }
      #expect(taken.sorted() == Array(0..<count))
    }
  }

  @Test(arguments: [(1, 8, 1), (1, 4, 2), (4, 1, 2), (2, 1, 4), (1, 1, 8)])
  func theGlobalBatchDoesNotDependOnTheSplit(_ perDevice: Int, _ accumulation: Int, _ worldSize: Int) {
    let reference = Self.sampler(100, BatchShape(perDevice: 8))
    let split = Self.sampler(100, BatchShape(perDevice: perDevice, accumulation: accumulation, worldSize: worldSize))
    // Not in order: a plan is a function of the step alone.
    for step in [30, 0, 12, 13, 5] {
      let (a, b) = (reference.plan(step: step), split.plan(step: step))
      #expect(a.pairs == b.pairs)
      for pair in a.pairs { #expect(a.nllTokenWeight(pair) == b.nllTokenWeight(pair)) }
    }
  }

  @Test func epochsAndSeedsDiffer() {
    let sampler = Self.sampler(100, BatchShape(perDevice: 100))
    let orders =
      (0..<4).map { sampler.plan(step: $0).pairs } + [
        Self.sampler(100, BatchShape(perDevice: 100), seed: 4).plan(step: 0).pairs
      ]
    #expect(Set(orders).count == orders.count)
    #expect(sampler.order(epoch: 0) == orders[0])
    let inOrder = Self.sampler(100, BatchShape(perDevice: 30), shuffle: false)
    #expect(inOrder.plan(step: 3).pairs == Array(90..<100))
    #expect(inOrder.plan(step: 4).pairs == Array(0..<30))
    #expect(inOrder.epoch(afterSteps: 4) == 1)
    #expect(inOrder.epoch(afterSteps: 5) == 1.3)
  }

  @Test func theOrderIsAPromise() {
    // A resumed run, and another rank with another build, must take the same pairs.
    #expect(Self.sampler(10, BatchShape(perDevice: 10), seed: 42).order(epoch: 0) == [8, 1, 0, 2, 4, 9, 3, 5, 7, 6])
  }

  @Test func everyPlaceIsEquallyLikely() {
    let sampler = Self.sampler(6, BatchShape(perDevice: 6))
    var counts = [Int](repeating: 0, count: 36)
    for epoch in 0..<6000 {
      for (place, pair) in sampler.order(epoch: epoch).enumerated() { counts[place * 6 + pair] += 1 }
    }
    // Expected 1000 each, standard deviation 29.
    #expect(counts.allSatisfy { (850...1150).contains($0) })
  }

  @Test func moreRanksThanPairsLeavesSomeWithout() {
    let plan = Self.sampler(3, BatchShape(perDevice: 1, worldSize: 8)).plan(step: 0)
    #expect(plan.parts.map(\.count).sorted() == [0, 0, 0, 0, 0, 1, 1, 1])
    #expect(
      plan.parts.indices.allSatisfy {
        plan.parts[$0].isEmpty == plan.microBatches(rank: $0, rowsPerMicroBatch: 10).isEmpty
      })
  }

  @Test func ranksAreBalanced() {
    let sampler = Self.sampler(1000, BatchShape(perDevice: 8, worldSize: 8))
    let full = (0..<sampler.stepsPerEpoch - 1).map { sampler.plan(step: $0).imbalance }
    #expect(full.allSatisfy { $0 >= 1 && $0 <= 1.03 }, "\(full.max() ?? 0)")
    // Against dealing in order, which the balanced plan is there to beat.
    let plan = sampler.plan(step: 0)
    let naive = (0..<8).map { rank in plan.pairs[(rank * 8)..<(rank * 8 + 8)].reduce(0) { $0 + Self.measures[$1].cost }
    }
    let total: Double = naive.reduce(0, +)
    let planned: Double = plan.costs.reduce(0, +)
    #expect((naive.max() ?? 0) > 1.1 * total / 8)
    #expect(abs(planned - total) < 1e-12 * total)
  }

  @Test func theEvaluationPlanDealsOutEverything() {
    let plan = GlobalBatchSampler.evaluationPlan(
      measures: Self.measures, division: BatchDivision(worldSize: 3), deviceBatch: 4)
    #expect(plan.pairs == Array(0..<1000))
    #expect(plan.parts.flatMap { $0 }.sorted() == plan.pairs)
    #expect(plan.imbalance < 1.001)
    #expect(plan.oddsWeight == 1e-3)
  }

  /// Neighbouring parts together are even too, so that it costs little that parts do not depend on the ranks.
  @Test(arguments: [(8, 2, 1.05), (16, 2, 1.01), (64, 2, 1.001), (64, 4, 1.01), (64, 8, 1.03), (1000, 8, 1.001)])
  func partsShareTheWorkEvenly(_ pairs: Int, _ worldSize: Int, _ most: Double) {
    for first in stride(from: 0, to: Self.measures.count - pairs + 1, by: max(pairs, 50)) {
      let plan = GlobalBatchSampler.evaluationPlan(
        measures: Array(Self.measures[first..<first + pairs]), division: BatchDivision(worldSize: worldSize, parts: 8),
        deviceBatch: 1)
      #expect(plan.imbalance <= most, "pairs \(first)... of \(pairs) over \(worldSize) ranks: \(plan.imbalance)")
    }
  }

  /// Parts are the same on any number of ranks, and every part is one rank's.
  @Test(arguments: [3, 8, 24, 1000]) func partsDoNotDependOnRanks(_ pairs: Int) {
    func plan(_ worldSize: Int) -> StepPlan {
      GlobalBatchSampler.evaluationPlan(
        measures: Array(Self.measures.prefix(pairs)), division: BatchDivision(worldSize: worldSize, parts: 8),
        deviceBatch: 1)
    }
    let alone = plan(1)
    #expect(alone.parts.count <= min(8, pairs) && alone.parts.allSatisfy { !$0.isEmpty })
    #expect(pairs < 100 || alone.parts.count == 8)
    for worldSize in [2, 3, 4, 8, 11] {
      let plan = plan(worldSize)
      #expect(plan.parts == alone.parts)
      #expect(plan.shares.flatMap { $0 } == Array(plan.parts.indices))
      #expect((0..<worldSize).flatMap { plan.pairs(rank: $0) }.sorted() == Array(0..<pairs))
      for part in plan.parts.indices {
        #expect(
          plan.microBatches(part: part, rowsPerMicroBatch: 900)
            == alone.microBatches(part: part, rowsPerMicroBatch: 900))
      }
    }
  }

  @Test(arguments: [500, 1500, 4000, 100_000]) func microBatchesKeepTheLimit(_ limit: Int) {
    let plan = Self.sampler(200, BatchShape(perDevice: 64, worldSize: 2)).plan(step: 0)
    for rank in 0..<2 {
      let groups = plan.microBatches(rank: rank, rowsPerMicroBatch: limit)
      #expect(groups.flatMap { $0 }.sorted() == plan.parts[rank].sorted())
      let rows = groups.map { $0.reduce(0) { $0 + Self.measures[$1].rows } }
      for (group, rows) in zip(groups, rows) { #expect(rows <= limit || group.count == 1) }
      #expect(rows == rows.sorted(by: >))
      // First fit leaves at most one group half empty, so there are fewer than twice the least possible.
      let longer = plan.parts[rank].filter { Self.measures[$0].rows > limit }
      let rest = rows.reduce(0, +) - longer.reduce(0) { $0 + Self.measures[$1].rows }
      #expect(groups.count <= longer.count + 2 * (rest + limit - 1) / limit + 1)
    }
  }

  @Test func microBatchesAreEvenWhereTheyCanBe() {
    let measures = [100, 90, 10, 10, 10, 80].map {
      PairMeasure(rows: $0, chosenTokens: 1, chosenCompletionTokens: 1, cost: 1)
    }
    let plan = GlobalBatchSampler.evaluationPlan(
      measures: measures, division: BatchDivision(worldSize: 1), deviceBatch: 1)
    #expect(plan.microBatches(rank: 0, rowsPerMicroBatch: 100) == [[0], [1, 3], [2, 4, 5]])
    #expect(plan.microBatches(rank: 0, rowsPerMicroBatch: 50) == [[0], [1], [5], [2, 3, 4]])
  }

  @Test(arguments: NLLTokens.allCases) func weightsAreThoseOfTheMeans(_ nllTokens: NLLTokens) {
    let tokens = { (pair: Int) in Double(nllTokens.count(Self.measures[pair])) }
    for (worldSize, count) in [(1, 22), (3, 22), (2, 16)] {
      for normalization in LossNormalization.allCases {
        let shape = BatchShape(perDevice: 4, accumulation: 2, worldSize: worldSize)
        let sampler = Self.sampler(count, shape, normalization, nllTokens)
        for step in 0..<sampler.stepsPerEpoch {
          let plan = sampler.plan(step: step)
          // If every token's NLL is 1, so is the loss, whatever the mean.
          let sum = plan.pairs.reduce(0) { $0 + plan.nllTokenWeight($1) * tokens($1) }
          #expect(abs(sum - 1) < 1e-12)
          #expect(abs(plan.oddsWeight * Double(plan.pairCount) - 1) < 1e-12)
          switch normalization {
          case .pair:
            for pair in plan.pairs {
              #expect(abs(plan.nllTokenWeight(pair) * tokens(pair) * Double(plan.pairCount) - 1) < 1e-12)
            }
          case .token: #expect(Set(plan.pairs.map(plan.nllTokenWeight)).count == 1)
          case .microbatch:
            let batches = stride(from: 0, to: plan.pairCount, by: 4).map {
              Array(plan.pairs[$0..<min($0 + 4, plan.pairCount)])
            }
            for batch in batches {
              let share = batch.reduce(0) { $0 + plan.nllTokenWeight($1) * tokens($1) }
              #expect(abs(share * Double(batches.count) - 1) < 1e-12)
              #expect(Set(batch.map(plan.nllTokenWeight)).count == 1)
            }
          }
        }
      }
    }
  }

  @Test func costsCountRowsAndAttention() {
    let pair = TokenizedPair(
      chosen: [1, 2, 3, 4], rejected: [1, 2, 5], chosenPromptLength: 2, rejectedPromptLength: 2)
    // P = 2 rows, C = 1, R = 0: 3 rows; attended 3 + (2 + 1).
    #expect(PairCost(perRow: 100, perAttendedRow: 1)(pair) == 306)
    #expect(
      PairMeasure(pair, cost: Self.cost)
        == PairMeasure(rows: 3, chosenTokens: 3, chosenCompletionTokens: 2, cost: Self.cost(pair)))
  }

  @Test func theSplitHoldsOutAFraction() throws {
    let split = try EvaluationSplit(count: 300, fraction: 0.1, seed: 5)
    #expect(split.evaluation.count == 30)
    #expect((split.training + split.evaluation).sorted() == Array(0..<300))
    #expect(split.training == split.training.sorted() && split.evaluation == split.evaluation.sorted())
    #expect(try EvaluationSplit(count: 300, fraction: 0.1, seed: 5) == split)
    #expect(try EvaluationSplit(count: 300, fraction: 0.1, seed: 6) != split)
    #expect(try EvaluationSplit(count: 100, fraction: 0.07, seed: 1).evaluation.count == 7)
    #expect(try EvaluationSplit(count: 10, fraction: 0.01, seed: 1).evaluation.count == 1)
    for (count, fraction) in [(10, 0.0), (10, 1.0), (1, 0.5), (10, -1), (10, .nan)] {
      #expect(throws: PreferenceFileError.self) { try EvaluationSplit(count: count, fraction: fraction, seed: 1) }
    }
  }
}
