package import Collectives
package import DataParallel
package import Decoder
package import Kernels
package import ORPO
package import Packing
package import Preferences
import Tensors
import Timeline

/// Distributed ORPO on pairs that are already token ids: the optimizer step and the evaluation pass. Knows nothing of
/// files and logs.
///
/// All ranks hold the same pairs and the same parameters and call the same functions in the same order.
package final class ORPOStep {
  package let decoder: Decoder
  package let pairs: [TokenizedPair]
  package let sampler: GlobalBatchSampler
  package let optimizer: AdamWOptimizer
  package let reducer: GradientReducer
  package let objective: ORPOObjective
  package let maxGradNorm: Double

  private let communicator: Communicator
  private let pool: ThreadPool
  private let rowsPerMicroBatch: Int
  private let gradients: AlignedBuffer<Float>
  private var logps: [Float] = []
  private var weights: [Float] = []

  /// What one optimizer step did, the same on every rank but for the last two.
  package struct Outcome: Sendable {
    /// Sums over all ranks and micro-batches of the step.
    package var metrics: ORPOMetrics
    /// Global norm before clipping.
    package var gradientNorm: Double
    /// Whether loss or norm was not finite, so that the parameters were left as they were.
    package var isSkipped: Bool
    /// Rows computed and tokens of both sequences, on all ranks.
    package var rows: Int
    package var tokens: Int
    /// Busiest rank's planned work over the mean.
    package var imbalance: Double
    /// Seconds this rank did nothing but wait for other ranks' gradients and parameters; differs between ranks.
    package var exposedCommunication: Double
    /// The part of them after this rank's backward had ended.
    package var communicationTail: Double
  }

  /// What bounds the memory of a micro-batch; no choice changes results.
  package struct Memory: Sendable {
    /// Rows of a micro-batch, and of a longer pair those whose activations are all kept.
    package var rowsPerMicroBatch: Int
    /// Keep only what enters each layer.
    package var checkpointing: Bool

    package init(rowsPerMicroBatch: Int, checkpointing: Bool = false) {
      self.rowsPerMicroBatch = rowsPerMicroBatch
      self.checkpointing = checkpointing
    }
  }

  /// A collective call.
  ///
  /// - Parameters:
  ///   - zeroStage: 1 keeps AdamW's moments of a share of the parameters on each rank, 0 all of them on every rank; the
  ///     parameters come out the same bit for bit.
  ///   - wireDType: what gradients are between nodes.
  ///   - evaluationPairs: pairs `evaluate` will be called with; memory is taken for them too.
  package init(
    decoder: Decoder, pairs: [TokenizedPair], sampler: GlobalBatchSampler, objective: ORPOObjective,
    hyperparameters: AdamW.Hyperparameters, maxGradNorm: Double, memory: Memory, communicator: Communicator,
    pool: ThreadPool, zeroStage: Int = 1, wireDType: WireDType = .fp32, evaluationPairs: [TokenizedPair] = []
  ) throws(MPIError) {
    self.decoder = decoder
    self.pairs = pairs
    self.sampler = sampler
    self.objective = objective
    self.maxGradNorm = maxGradNorm
    rowsPerMicroBatch = memory.rowsPerMicroBatch
    self.communicator = communicator
    self.pool = pool
    gradients = AlignedBuffer(count: decoder.layout.count)
    reducer = GradientReducer(
      mesh: try RankMesh(communicator, wireDType: wireDType), gradients: gradients.values,
      result: zeroStage == 0 ? .everything : .ownSlices, overlaps: true)
    optimizer = AdamWOptimizer(
      parameters: decoder.parameters, gradients: gradients.values, decayRanges: decoder.layout.decayRanges,
      hyperparameters: hyperparameters, owned: zeroStage == 0 ? nil : reducer.plan.slices(of: communicator.rank))
    decoder.reserve(Self.limits(pairs + evaluationPairs, memory, training: true))
  }

  /// The largest micro-batch that `pairs` can make.
  package static func limits(
    _ pairs: [TokenizedPair], _ memory: Memory, training: Bool
  ) -> Decoder.MemoryLimits {
    let rows = pairs.map(\.rowCount)
    return Decoder.MemoryLimits(
      rows: max(rows.max() ?? 0, min(memory.rowsPerMicroBatch, rows.reduce(0, +))),
      sequence: pairs.map { max($0.chosen.count, $0.rejected.count) }.max() ?? 0, training: training,
      keptRows: memory.rowsPerMicroBatch, checkpointing: memory.checkpointing)
  }

  /// Optimizer step `index`, counted from 0: this rank's share forward and backward, gradients summed over ranks,
  /// clipped, applied.
  package func run(_ index: Int, learningRate: Double) throws -> Outcome {
    let timeline = pool.timeline
    reducer.timeline = timeline
    return try timeline.span("step", index) {
      let plan = timeline.span("plan") { sampler.plan(step: index) }
      let before = reducer.totals
      let microBatches = plan.microBatches(rank: communicator.rank, rowsPerMicroBatch: rowsPerMicroBatch)
      timeline.span("clear gradients") { clearGradients() }
      var metrics = ORPOMetrics()
      for (position, members) in microBatches.enumerated() {
        try timeline.span("micro-batch", position) {
          let batch = PackedPairs(members.map { pairs[$0] })
          timeline.span("forward") { forward(batch) }
          metrics += timeline.span("objective") { weigh(batch, members, plan) }
          // Only the last micro-batch leaves gradients complete: from then on they may travel.
          let isLast = position == microBatches.count - 1
          try timeline.span("backward") { try backward(batch, isLast: isLast) }
        }
      }
      try timeline.span("finish reduction") { try reducer.finish() }
      let norm = try timeline.span("gradient norm") { try reducer.globalNorm() }
      let total = try timeline.span("agree on metrics") { try agreed(metrics) }
      let isFinite = norm.isFinite && total.loss.isFinite
      if isFinite { try update(learningRate: learningRate, norm: norm) }
      return outcome(plan, total, norm: norm, isSkipped: !isFinite, reducer.totals - before)
    }
  }

  private func backward(_ batch: PackedPairs, isLast: Bool) throws {
    try weights.withUnsafeBufferPointer {
      try decoder.backward(
        batch, weights: $0, into: gradients.pointer,
        onGradientReady: isLast ? { try self.reducer.ready(upTo: $0) } : nil)
    }
  }

  /// Every rank's own slices, then all of them everywhere.
  private func update(learningRate: Double, norm: Double) throws {
    let scale = GradientReducer.clipScale(norm: norm, maxNorm: maxGradNorm)
    pool.timeline.span("optimizer") {
      optimizer.step(learningRate: learningRate, gradientScale: scale, pool: pool)
    }
    try pool.timeline.span("gather parameters") { try reducer.gatherParameters(decoder.parameters) }
    pool.timeline.span("round weights") { decoder.parametersChanged() }
  }

  private func outcome(
    _ plan: StepPlan, _ metrics: ORPOMetrics, norm: Double, isSkipped: Bool, _ communication: CommunicationTotals
  ) -> Outcome {
    Outcome(
      metrics: metrics, gradientNorm: norm, isSkipped: isSkipped,
      rows: plan.pairs.reduce(0) { $0 + pairs[$1].rowCount },
      tokens: plan.pairs.reduce(0) { $0 + pairs[$1].chosen.count + pairs[$1].rejected.count },
      imbalance: plan.imbalance, exposedCommunication: communication.exposedSeconds,
      communicationTail: communication.tailSeconds)
  }

  /// Forward and backward passes this rank does in step `index`.
  package func microBatchCount(_ index: Int) -> Int {
    sampler.plan(step: index).microBatches(rank: communicator.rank, rowsPerMicroBatch: rowsPerMicroBatch).count
  }

  /// Metrics of one pass over `pairs`, which are dealt out over the ranks. Parameters stay as they are.
  package func evaluate(_ pairs: [TokenizedPair], plan: StepPlan) throws -> ORPOMetrics {
    try Self.evaluate(
      pairs, plan: plan, decoder: decoder, objective: objective, rowsPerMicroBatch: rowsPerMicroBatch,
      communicator: communicator)
  }

  /// The same without a training step around it. The decoder's memory must be reserved for `limits(pairs, ...)`.
  package static func evaluate(
    _ pairs: [TokenizedPair], plan: StepPlan, decoder: Decoder, objective: ORPOObjective, rowsPerMicroBatch: Int,
    communicator: Communicator
  ) throws -> ORPOMetrics {
    var metrics = ORPOMetrics()
    for members in plan.microBatches(rank: communicator.rank, rowsPerMicroBatch: rowsPerMicroBatch) {
      let batch = PackedPairs(members.map { pairs[$0] })
      var logps = [Float](repeating: 0, count: batch.predictionCount)
      logps.withUnsafeMutableBufferPointer { decoder.forward(batch, logps: $0) }
      metrics += logps.withUnsafeBufferPointer {
        objective.evaluate(logProbs: $0, pairs: batch, coefficients: plan.coefficients(members))
      }
    }
    var values = metrics.values
    try communicator.agree(sum: &values)
    return ORPOMetrics(values: values)
  }

  private func clearGradients() {
    let start = gradients.pointer
    pool.ranges(gradients.count, grain: 1 << 16) { (start + $0.lowerBound).update(repeating: 0, count: $0.count) }
  }

  private func forward(_ batch: PackedPairs) {
    logps = [Float](repeating: 0, count: batch.predictionCount)
    logps.withUnsafeMutableBufferPointer { decoder.forward(batch, logps: $0) }
  }

  /// Turns the log-probabilities of `forward` into metrics and `weights`.
  private func weigh(_ batch: PackedPairs, _ members: [Int], _ plan: StepPlan) -> ORPOMetrics {
    weights = [Float](repeating: 0, count: batch.predictionCount)
    return logps.withUnsafeBufferPointer { logps in
      weights.withUnsafeMutableBufferPointer {
        objective.evaluate(logProbs: logps, pairs: batch, coefficients: plan.coefficients(members), weights: $0)
      }
    }
  }

  /// One fused reduction for everything a step reports.
  private func agreed(_ metrics: ORPOMetrics) throws -> ORPOMetrics {
    var values = metrics.values
    try communicator.agree(sum: &values)
    return ORPOMetrics(values: values)
  }
}

extension StepPlan {
  fileprivate func coefficients(_ members: [Int]) -> [ORPOObjective.PairCoefficients] {
    members.map { .init(nllTokenWeight: nllTokenWeight($0), oddsWeight: oddsWeight) }
  }
}
