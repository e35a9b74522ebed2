package import Collectives
package import DataParallel
package import Decoder
package import Kernels
package import ORPO
package import Packing
package import Preferences
import Tensors
import Timeline

/// The optimizer step of distributed ORPO on pairs that are already token ids. Knows nothing of files and logs.
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

  /// Told where in a step this rank is.
  package var progress: RankProgress?

  /// Called once, with the next step's gradients before they are computed: for faults on purpose.
  package var disturb: ((UnsafeMutableBufferPointer<Float>) -> Void)?

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
    /// Whether loss or norm was not finite or the norm above its limit, so that the parameters were left as they were.
    package var isSkipped: Bool
    /// Rows computed and tokens of both sequences, on all ranks.
    package var rows: Int
    package var tokens: Int
    /// Busiest rank's planned work over the mean.
    package var imbalance: Double
    /// What each rank said of itself.
    package var ranks: [RankNote]
    /// Seconds this rank did nothing but wait for other ranks' gradients and parameters; differs between ranks.
    package var exposedCommunication: Double
    /// The part of them after this rank's backward had ended.
    package var communicationTail: Double

    package var ranksAskingToStop: [Int] { ranks.indices.filter { ranks[$0].asksToStop } }
    /// Norms of the ranks' own gradients, before they were summed.
    package var rankNorms: [Double] { ranks.map(\.gradientNorm) }
    /// Seconds the ranks computed, waiting left out.
    package var rankSeconds: [Double] { ranks.map(\.seconds) }
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
  ///   - wireDType: what gradients are between nodes. Not with a sampler that divides steps into parts: then every sum
  ///     has the same bits on any number of ranks, which rounding on the wire would undo.
  ///   - evaluationPairs: pairs that `evaluation` will be given; memory is taken for them too.
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
    let arenas = sampler.division.arenas
    reducer = GradientReducer(
      mesh: try RankMesh(
        communicator, wireDType: wireDType, partialSums: sampler.division.parts == nil ? nil : arenas.max()),
      gradients: gradients.values, result: zeroStage == 0 ? .everything : .ownSlices, overlaps: true,
      arenas: arenas[communicator.rank])
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
  /// clipped, applied. Until it is applied nothing is changed: a step that was skipped can be run again.
  ///
  /// - Parameters:
  ///   - normLimit: the step is skipped when its gradient norm is above.
  ///   - asksToStop: told to all ranks in the outcome.
  package func run(
    _ index: Int, learningRate: Double, normLimit: Double = .infinity, asksToStop: Bool = false
  ) throws -> Outcome {
    let timeline = pool.timeline
    reducer.timeline = timeline
    return try timeline.span("step", index) {
      let began = CommunicationTotals.now()
      progress?.enter(.forward, step: index + 1)
      let plan = timeline.span("plan") { sampler.plan(step: index) }
      let before = reducer.totals
      let parts = try compute(plan)
      let seconds = CommunicationTotals.now() - began - (reducer.totals - before).exposedSeconds
      progress?.enter(.reduction)
      try timeline.span("finish reduction") { try reducer.finish() }
      let norm = try timeline.span("gradient norm") { try reducer.globalNorm() }
      let own = RankNote(
        asksToStop: asksToStop, gradientNorm: communicator.worldSize > 1 ? reducer.ownNorm : norm, seconds: seconds)
      let (total, ranks) = try timeline.span("agree on metrics") { try agreed(parts, own) }
      let isSound = norm.isFinite && total.loss.isFinite && norm <= normLimit
      if isSound { try update(learningRate: learningRate, norm: norm) }
      return outcome(plan, total, ranks, norm: norm, isSkipped: !isSound, reducer.totals - before)
    }
  }

  /// Forward and backward of this rank's parts, one after the other. Returns the metrics of all parts; those of other
  /// ranks' are zero.
  private func compute(_ plan: StepPlan) throws -> [ORPOMetrics] {
    let timeline = pool.timeline
    let own = plan.shares[communicator.rank]
    var metrics = [ORPOMetrics](repeating: ORPOMetrics(), count: plan.parts.count)
    reducer.begin(plan.shares)
    for part in own {
      let gradients = reducer.beginPart(part)
      timeline.span("clear gradients") { clear(gradients) }
      if part == own.first {
        disturb?(UnsafeMutableBufferPointer(start: gradients, count: self.gradients.count))
        disturb = nil
      }
      let microBatches = plan.microBatches(part: part, rowsPerMicroBatch: rowsPerMicroBatch)
      for (position, members) in microBatches.enumerated() {
        try timeline.span("micro-batch", position) {
          let batch = PackedPairs(members.map { pairs[$0] })
          progress?.enter(.forward)
          timeline.span("forward") { forward(batch) }
          metrics[part] += timeline.span("objective") { weigh(batch, members, plan) }
          progress?.enter(.backward)
          // Only the last micro-batch leaves gradients complete: from then on they may travel.
          let isLast = position == microBatches.count - 1 && part == own.last
          try timeline.span("backward") { try backward(batch, into: gradients, isLast: isLast) }
        }
      }
      if part != own.last { timeline.span("add parts") { reducer.endPart(pool) } }
    }
    return metrics
  }

  private func backward(_ batch: PackedPairs, into gradients: UnsafeMutablePointer<Float>, isLast: Bool) throws {
    try weights.withUnsafeBufferPointer {
      try decoder.backward(
        batch, weights: $0, into: gradients,
        onGradientReady: isLast ? { try self.reducer.ready(upTo: $0) } : nil)
    }
  }

  /// Every rank's own slices, then all of them everywhere.
  private func update(learningRate: Double, norm: Double) throws {
    progress?.enter(.optimizer)
    let scale = GradientReducer.clipScale(norm: norm, maxNorm: maxGradNorm)
    pool.timeline.span("optimizer") {
      optimizer.step(learningRate: learningRate, gradientScale: scale, pool: pool)
    }
    try pool.timeline.span("gather parameters") { try reducer.gatherParameters(decoder.parameters) }
    pool.timeline.span("round weights") { decoder.parametersChanged() }
  }

  private func outcome(
    _ plan: StepPlan, _ metrics: ORPOMetrics, _ ranks: [RankNote], norm: Double, isSkipped: Bool,
    _ communication: CommunicationTotals
  ) -> Outcome {
    Outcome(
      metrics: metrics, gradientNorm: norm, isSkipped: isSkipped,
      rows: plan.pairs.reduce(0) { $0 + pairs[$1].rowCount },
      tokens: plan.pairs.reduce(0) { $0 + pairs[$1].chosen.count + pairs[$1].rejected.count },
      imbalance: plan.imbalance, ranks: ranks, exposedCommunication: communication.exposedSeconds,
      communicationTail: communication.tailSeconds)
  }

  /// Forward and backward passes this rank does in step `index`.
  package func microBatchCount(_ index: Int) -> Int {
    sampler.plan(step: index).microBatches(rank: communicator.rank, rowsPerMicroBatch: rowsPerMicroBatch).count
  }

  /// Over other pairs, between two steps.
  package var evaluation: EvaluationPass {
    EvaluationPass(
      decoder: decoder, objective: objective, rowsPerMicroBatch: rowsPerMicroBatch, communicator: communicator,
      progress: progress)
  }

  private func clear(_ start: UnsafeMutablePointer<Float>) {
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
  private func agreed(_ parts: [ORPOMetrics], _ own: RankNote) throws -> (ORPOMetrics, [RankNote]) {
    var notes = [RankNote](repeating: .none, count: communicator.worldSize)
    notes[communicator.rank] = own
    let (metrics, values) = try communicator.agreed(parts, notes.flatMap(\.values))
    return (metrics, notes.indices.map { RankNote(values: values, rank: $0) })
  }
}

extension BatchDivision {
  /// Arenas of gradients that each rank holds at most: one, and more where parts are added up in a fixed order.
  package var arenas: [Int] {
    guard parts != nil else { return Array(repeating: 1, count: worldSize) }
    return shares.map { share in
      // Empty parts are left out, before a rank's own and among them.
      let held = (0...share.lowerBound).map { PartSpan.mostHeld($0..<$0 + share.count) }
      return max(held.max() ?? 0, 1)
    }
  }
}
