import Decoder
import Packing
import Preferences
import Testing
import Training

@Suite struct PassCostTests {
  private func curve(_ points: (Int, Double)...) -> PassCost.Curve {
    PassCost.Curve(points.map { .init(rows: $0.0, seconds: $0.1) })
  }

  @Test func aCurveGoesThroughItsPoints() {
    let curve = curve((400, 1.5), (100, 0.3), (300, 0.7))
    for (rows, seconds) in [(0, 0.0), (100, 0.3), (200, 0.5), (300, 0.7), (350, 1.1), (400, 1.5), (800, 3), (50, 0.2)] {
      #expect(abs(curve.seconds(rows: rows) - seconds) < 1e-12, "\(rows) rows")
    }
    #expect(curve.points.map(\.rows) == [100, 300, 400])
  }

  /// Noise may make a small pass look dearer than a large one, or nearly free.
  @Test(arguments: [(0.9, 0.7), (0.1, 0.7), (0.3, 0.3)])
  func fewRowsAreNeitherFreeNorDearerThanMore(_ small: Double, _ large: Double) {
    let curve = curve((100, small), (300, large))
    for rows in [1, 10, 50, 99] {
      let seconds = curve.seconds(rows: rows)
      #expect(seconds >= small * Double(rows) / 100 - 1e-15 && seconds <= small)
    }
  }

  @Test func onePointIsProportional() {
    #expect(abs(curve((100, 0.4), (100, 0.6)).seconds(rows: 30) - 0.15) < 1e-15)
  }

  @Test func aPassIsLayersAttentionAndWhatIsOutside() {
    let cost = PassCost(
      layers: 3, layer: curve((10, 2)), perAttendedRow: 0.01, outside: curve((10, 7)),
      backwardShare: 0.75, perUpdatedParameter: 1e-3)
    #expect(abs(cost.seconds(rows: 10, attendedRows: 50) - (3 * (2 + 0.5) + 7)) < 1e-12)
    #expect(abs(cost.backwardSeconds(rows: 10, attendedRows: 50) - 0.75 * 7.5) < 1e-12)
    let twice = cost.onThreads(times: 2)
    #expect(abs(twice.seconds(rows: 10, attendedRows: 50) - 14.5 / 2) < 1e-12)
    #expect(twice.perUpdatedParameter == 0.5e-3 && twice.backwardShare == 0.75)
  }

  @Test func theSizeOfPackedPairsIsThatOfThePairs() {
    let pairs = [
      TokenizedPair(chosen: [1, 2, 3, 4, 5, 6], rejected: [1, 2, 9], chosenPromptLength: 2, rejectedPromptLength: 2),
      TokenizedPair(chosen: [7, 8], rejected: [7, 9, 9, 9], chosenPromptLength: 1, rejectedPromptLength: 1),
    ]
    // First pair: prefix 2 (3 attended), 3 rows of chosen (3 * 2 + 6), none of rejected; second: 1, none, 2 (2 + 3).
    #expect(PassSize(pairs) == PassSize(rows: 8, attendedRows: 3 + 12 + 1 + 5))
  }
}

@Suite struct CommunicationCostTests {
  private func setting(ranks: Int, hosts: Int, sharded: Bool = false, wireBytes: Int = 4) -> CommunicationCost.Setting {
    .init(
      parameters: 1000, lastParameters: 250, ranks: ranks, hosts: hosts, isSharded: sharded, wireBytes: wireBytes,
      network: 100, memory: 1000)
  }

  @Test func oneRankHasNothingToSend() {
    let cost = CommunicationCost(setting(ranks: 1, hosts: 1), overlap: 5)
    #expect(cost.exposed == 0 && cost.networkBytes == 0 && cost.inNode == 0)
  }

  /// An all-reduce moves 2 (H - 1) / H of the gradients out of every host, however many ranks it has.
  @Test(arguments: [(4, 4), (8, 4)]) func anAllReduceMovesTwiceTheOthersShare(ranks: Int, hosts: Int) {
    let cost = CommunicationCost(setting(ranks: ranks, hosts: hosts), overlap: 0)
    #expect(abs(cost.networkBytes - 2 * 0.75 * 4000) < 1e-9)
    #expect(abs(cost.networkReduce - 60) < 1e-9 && cost.networkGather == 0)
    #expect((cost.inNode > 0) == (ranks > hosts))
  }

  @Test func shardsGatherParametersAfterTheUpdate() {
    let cost = CommunicationCost(setting(ranks: 4, hosts: 4, sharded: true), overlap: 1000)
    #expect(abs(cost.networkReduce - 30) < 1e-9 && abs(cost.networkGather - 30) < 1e-9)
    // All but the embedding's quarter hides behind backward.
    #expect(abs(cost.exposed - (30 * 0.25 + 30)) < 1e-9)
  }

  @Test func narrowGradientsHalveOneWay() {
    let cost = CommunicationCost(setting(ranks: 2, hosts: 2, sharded: true, wireBytes: 2), overlap: 0)
    #expect(abs(cost.networkReduce - 10) < 1e-9 && abs(cost.networkGather - 20) < 1e-9)
    #expect(abs(cost.exposed - 30) < 1e-9)
  }

  @Test func nothingHidesLongerThanBackwardTakes() {
    let exposed = [0.0, 10, 1000].map { CommunicationCost(setting(ranks: 2, hosts: 2), overlap: $0).exposed }
    #expect(abs(exposed[0] - 40) < 1e-9 && abs(exposed[1] - 30) < 1e-9 && abs(exposed[2] - 10) < 1e-9)
  }
}

@Suite struct RunPlanTests {
  private let model = DecoderConfiguration(
    family: .llama, vocabSize: 100, hiddenSize: 16, intermediateSize: 32, numHiddenLayers: 2, numAttentionHeads: 2,
    numKeyValueHeads: 2, headDim: 8, rmsNormEps: 1e-5, rope: RotaryConfiguration(theta: 10_000),
    maxPositionEmbeddings: 256, tieWordEmbeddings: true)
  private let pairs = (0..<64).map { index in
    let length = 20 + index * 37 % 50
    return TokenizedPair(
      chosen: [Int32](repeating: 1, count: length), rejected: [1] + [Int32](repeating: 2, count: 10),
      chosenPromptLength: 1, rejectedPromptLength: 1)
  }
  private let cost = PassCost(
    layers: 2, layer: .init([.init(rows: 10, seconds: 0.02), .init(rows: 110, seconds: 0.12)]), perAttendedRow: 1e-6,
    outside: .init([.init(rows: 100, seconds: 0.05)]), backwardShare: 0.7, perUpdatedParameter: 1e-6)

  private func steps(_ ranks: Int) -> PlannedSteps {
    PlannedSteps(
      pairs, shape: BatchShape(perDevice: 1, accumulation: 4, worldSize: ranks), rowsPerMicroBatch: 128,
      cost: model.pairCost(parameters: model.parameterCount), seed: 1, shuffle: true)
  }

  private func plan(_ ranks: Int, hosts: Int = 1, sharded: Bool = false, totalSteps: Int? = 10) -> RunPlan {
    RunPlan(
      model: model, layout: .init(ranks: ranks, hosts: hosts, threads: 1, network: 1e9), isSharded: sharded,
      isRounded: false,
      activations: 1000, steps: steps(ranks), singleSteps: steps(1), cost: cost, alone: cost, memoryBandwidth: 1e10,
      totalSteps: totalSteps)
  }

  @Test func everyPairIsPlannedOnce() {
    let steps = steps(4)
    #expect(steps.pairsPerStep == 16)
    let rows = steps.passes.joined().joined().reduce(0) { $0 + $1.rows }
    #expect(rows == pairs.reduce(0) { $0 + $1.rowCount })
    #expect(steps.passes.allSatisfy { $0.count == 4 })
    #expect(steps.passes.joined().joined().allSatisfy { $0.rows <= 128 })
    #expect(abs(steps.rowsPerStep * Double(steps.passes.count) - Double(rows)) < 1e-9)
  }

  @Test func oneRankIsItsOwnMeasure() {
    let plan = plan(1)
    #expect(plan.communication.exposed == 0 && plan.imbalance == 1)
    #expect(abs(plan.efficiency - 1) < 1e-12)
    #expect(abs(plan.stepSeconds - plan.compute.busiest - plan.optimizerSeconds) < 1e-12)
  }

  @Test func aStepIsTheBusiestRanksPassesAndWhatFollows() {
    let plan = plan(4, hosts: 2)
    #expect(plan.imbalance > 1 && plan.imbalance < 1.2)
    #expect(
      abs(plan.stepSeconds - plan.compute.busiest - plan.optimizerSeconds - plan.communication.exposed) < 1e-12)
    #expect(plan.efficiency < 1 && plan.efficiency > 0.5)
    #expect(abs((plan.runSeconds ?? 0) - 10 * plan.stepSeconds) < 1e-9)
    #expect(self.plan(2, totalSteps: nil).runSeconds == nil)
  }

  @Test func memoryOfARank() {
    let count = model.parameterCount
    let whole = plan(4).memory, shared = plan(4, sharded: true).memory
    #expect(whole.total == 16 * count + 1000)
    #expect(shared.optimizer == 8 * ((count + 3) / 4) && shared.total == 8 * count + shared.optimizer + 1000)
    // Each rank updates its share; clearing gradients and the norm remain: 8 bytes a parameter, four ranks on one host.
    let update = 1e-6 * Double(count), sweeps = 4 * 8 * Double(count) / 1e10
    #expect(abs(plan(4).optimizerSeconds - (update + sweeps)) < 1e-12)
    #expect(abs(plan(4, sharded: true).optimizerSeconds - (update / 4 + sweeps)) < 1e-12)
  }
}
