import Collectives
import Decoder
import Foundation
import Kernels
import ORPO
import Packing
import Preferences
import Tensors
import Tokenization

/// A few steps of ORPO on a tiny byte-level model and the built-in pairs, with the decoder, sampler, step and optimizer
/// of any other run.
///
/// A step takes all pairs whatever the number of ranks, so every cluster computes the same; ranks beyond the number of
/// pairs have none and only reduce.
final class PracticeTraining {
  private let job: Job
  private let decoder: Decoder
  private let step: ORPOStep
  private let schedule: LearningRateSchedule

  private static let steps = 40
  /// Training stops early when this is over, but not before it has seen `leastSteps`.
  private static let seconds = 12.0
  private static let leastSteps = 5

  struct Result {
    var steps: Int
    var first: (loss: Double, margin: Double)
    var last: (loss: Double, margin: Double)
    var pairsPerSecond: Double
  }

  /// A collective call.
  init(_ job: Job) throws {
    self.job = job
    let communicator = job.communicator
    let tokenizer = try communicator.together { try Tokenizer.bytes() }
    let pairs = try communicator.together { try BuiltInPairs.tokenized(with: tokenizer) }
    let configuration = Self.model
    decoder = try communicator.together { try Decoder(configuration, pool: job.pool) }
    decoder.initialize(seed: 1)
    // Hosts may differ in the last bit of a logarithm; as after loading a file, rank 0's numbers count.
    try communicator.broadcast(UnsafeMutableRawBufferPointer(decoder.parameters))
    let cost = configuration.pairCost(parameters: decoder.layout.count)
    let perRank = (pairs.count + communicator.worldSize - 1) / communicator.worldSize
    let sampler = GlobalBatchSampler(
      measures: pairs.map { PairMeasure($0, cost: cost) },
      shape: BatchShape(perDevice: perRank, worldSize: communicator.worldSize), seed: 1, shuffle: false)
    step = try ORPOStep(
      decoder: decoder, pairs: pairs, sampler: sampler, objective: ORPOObjective(alpha: 1, temperature: 1),
      hyperparameters: AdamW.Hyperparameters(weightDecay: 0.01), maxGradNorm: 1,
      memory: .init(rowsPerMicroBatch: 512), communicator: communicator, pool: job.pool)
    schedule = LearningRateSchedule(kind: .linear, peak: 4e-3, warmupSteps: 0, totalSteps: Self.steps)
  }

  /// Llama's architecture in small; the vocabulary is the 256 bytes and three special tokens.
  private static let model = DecoderConfiguration(
    family: .llama, vocabSize: 259, hiddenSize: 128, intermediateSize: 352, numHiddenLayers: 3, numAttentionHeads: 4,
    numKeyValueHeads: 2, headDim: 32, rmsNormEps: 1e-5, rope: RotaryConfiguration(theta: 10_000),
    maxPositionEmbeddings: 256, tieWordEmbeddings: true)

  var parameters: UnsafeMutableBufferPointer<Float> { decoder.parameters }

  var summary: String {
    "ORPO on \(step.pairs.count) built-in pairs, all in every step; a Llama of "
      + String(format: "%.2f M parameters", Double(decoder.layout.count) / 1e6)
  }

  static func line(_ step: Int, _ outcome: ORPOStep.Outcome) -> String {
    let digits = "\(step + 1)"
    return "            step \(String(repeating: " ", count: max(3 - digits.count, 0)))\(digits)  "
      + "loss \(SelfCheck.decimal(outcome.metrics.loss))  margin \(SelfCheck.signed(margin(outcome)))  "
      + "grad_norm \(SelfCheck.decimal(outcome.gradientNorm))"
  }

  /// Trains until the last step or until time is up, and checks what came of it. A collective call.
  func run(afterEach: (Int, ORPOStep.Outcome) -> Void) throws -> Result {
    var outcomes: [ORPOStep.Outcome] = []
    var elapsed = [0.0]
    let began = ProcessInfo.processInfo.systemUptime
    while outcomes.count < Self.steps, outcomes.count < Self.leastSteps || elapsed[0] < Self.seconds {
      let index = outcomes.count
      let outcome = try step.run(index, learningRate: schedule[index])
      afterEach(index, outcome)
      try check(index, outcome)
      outcomes.append(outcome)
      // Clocks differ: the ranks agree on the time before one of them decides to stop.
      elapsed = [ProcessInfo.processInfo.systemUptime - began]
      try job.communicator.agree(max: &elapsed)
    }
    let (first, last) = (outcomes[0], outcomes[outcomes.count - 1])
    guard last.metrics.loss < 0.9 * first.metrics.loss else {
      throw SelfCheckFailure(
        "the loss did not fall: \(SelfCheck.decimal(first.metrics.loss)) -> \(SelfCheck.decimal(last.metrics.loss)) "
          + "in \(outcomes.count) steps")
    }
    return Result(
      steps: outcomes.count, first: (first.metrics.loss, Self.margin(first)),
      last: (last.metrics.loss, Self.margin(last)),
      pairsPerSecond: outcomes.reduce(0) { $0 + $1.metrics.pairCount } / elapsed[0])
  }

  private static func margin(_ outcome: ORPOStep.Outcome) -> Double {
    outcome.metrics.margins / max(outcome.metrics.pairCount, 1)
  }

  private func check(_ index: Int, _ outcome: ORPOStep.Outcome) throws {
    let loss = outcome.metrics.loss
    if outcome.isSkipped {
      throw SelfCheckFailure(
        "training step \(index + 1) has a loss of \(loss) and a gradient norm of \(outcome.gradientNorm); "
          + "expected finite numbers")
    }
    if Int(outcome.metrics.pairCount) != step.pairs.count {
      throw SelfCheckFailure(
        "the ranks computed \(Int(outcome.metrics.pairCount)) pairs in training step \(index + 1), expected \(step.pairs.count)"
      )
    }
    // An untrained model finds all bytes about equally likely, and chosen about as likely as rejected.
    let expected = log(Double(decoder.configuration.vocabSize)) + log(2.0)
    if index == 0, abs(loss - expected) > 0.2 {
      throw SelfCheckFailure(
        "the untrained model's loss is \(SelfCheck.decimal(loss)), expected about \(SelfCheck.decimal(expected)): "
          + "a rank's matrix products are wrong (rank 0's oneDNN uses \(Matmul.instructionSet); ONEDNN_MAX_CPU_ISA limits it)"
      )
    }
  }
}
