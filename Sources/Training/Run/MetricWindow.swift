import ORPO

/// Steps since the last log, averaged under the names of the log.
struct MetricWindow {
  private var metrics = ORPOMetrics()
  private var steps = 0
  private var seconds = 0.0
  private var tokens = 0
  private var floatingPointOperations = 0.0
  private var imbalance = 0.0
  private var lastNorm = 0.0
  private var lastLearningRate = 0.0

  var isEmpty: Bool { steps == 0 }

  mutating func add(_ outcome: ORPOStep.Outcome, learningRate: Double, seconds: Double, operations: Double) {
    metrics += outcome.metrics
    steps += 1
    self.seconds += seconds
    tokens += outcome.tokens
    floatingPointOperations += operations
    imbalance += outcome.imbalance
    lastNorm = outcome.gradientNorm
    lastLearningRate = learningRate
  }

  /// - Parameter peakGFLOPs: what all ranks' matrix products reach together; the denominator of `mfu`.
  func entry(step: Int, epoch: Double, peakGFLOPs: Double, peakMemoryGB: Double, skippedPairs: Int, skippedSteps: Int) -> LogEntry {
    let named = metrics.named(steps: steps)
    var values = [named[0], ("grad_norm", lastNorm), ("learning_rate", lastLearningRate)] + named.dropFirst()
    values += [
      ("tokens_per_second", Double(tokens) / seconds), ("pairs_per_second", metrics.pairCount / seconds),
      ("step_time", seconds / Double(steps)), ("mfu", floatingPointOperations / seconds / (peakGFLOPs * 1e9)),
      ("imbalance", imbalance / Double(steps)), ("peak_memory_gb", peakMemoryGB), ("skipped_pairs", Double(skippedPairs)),
      ("skipped_steps", Double(skippedSteps)),
    ]
    return LogEntry(step: step, epoch: epoch, metrics: values.map { LogEntry.Metric($0.0, $0.1) })
  }
}
