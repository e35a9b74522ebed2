package import Collectives
package import Decoder
package import ORPO
package import Packing
package import Preferences

/// Metrics of a model on pairs, without a training step around it: what evaluation is on all ranks together.
package struct EvaluationPass {
  private let decoder: Decoder
  private let objective: ORPOObjective
  private let rowsPerMicroBatch: Int
  private let communicator: Communicator
  private let progress: RankProgress?

  /// Between two questions whether to stop.
  private static let microBatchesOfARound = 4

  /// - Parameter decoder: its memory must be reserved for `ORPOStep.limits(pairs, ...)`.
  package init(
    decoder: Decoder, objective: ORPOObjective, rowsPerMicroBatch: Int, communicator: Communicator,
    progress: RankProgress?
  ) {
    self.decoder = decoder
    self.objective = objective
    self.rowsPerMicroBatch = rowsPerMicroBatch
    self.communicator = communicator
    self.progress = progress
  }

  /// One pass over `pairs`, which are dealt out over the ranks; a collective call. Parameters stay as they are.
  ///
  /// - Parameter asksToStop: asked every few micro-batches; when any rank's says so the pass is broken off.
  /// - Returns: nil when it was broken off, on all ranks.
  package func metrics(
    of pairs: [TokenizedPair], plan: StepPlan, asksToStop: () -> Bool
  ) throws -> ORPOMetrics? {
    var metrics = [ORPOMetrics](repeating: ORPOMetrics(), count: plan.parts.count)
    let own = microBatches(of: communicator.rank, plan)
    let most = (0..<communicator.worldSize).map { microBatches(of: $0, plan).count }.max() ?? 0
    for first in stride(from: 0, to: most, by: Self.microBatchesOfARound) {
      progress?.enter(.evaluation)
      var stops = [asksToStop() ? 1.0 : 0]
      try communicator.agree(max: &stops)
      if stops[0] > 0 { return nil }
      for (part, members) in own.dropFirst(first).prefix(Self.microBatchesOfARound) {
        progress?.enter(.evaluation)
        let batch = PackedPairs(members.map { pairs[$0] })
        var logps = [Float](repeating: 0, count: batch.predictionCount)
        logps.withUnsafeMutableBufferPointer { decoder.forward(batch, logps: $0) }
        metrics[part] += logps.withUnsafeBufferPointer {
          objective.evaluate(logProbs: $0, pairs: batch, coefficients: plan.coefficients(members))
        }
      }
    }
    return try communicator.agreed(metrics, []).metrics
  }

  private func microBatches(of rank: Int, _ plan: StepPlan) -> [(part: Int, members: [Int])] {
    plan.shares[rank].flatMap { part in
      plan.microBatches(part: part, rowsPerMicroBatch: rowsPerMicroBatch).map { (part, $0) }
    }
  }
}
