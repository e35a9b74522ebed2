package import JSON
import ORPO

/// Steps since the last log, averaged under the names of the log. Loss, other metrics and the norm are those of steps that were
/// not skipped, time, tokens and imbalance those of all.
package struct MetricWindow: Equatable {
  private var metrics = ORPOMetrics()
  private var steps = 0
  private var skipped = 0
  private var seconds = 0.0
  private var tokens = 0
  private var floatingPointOperations = 0.0
  private var imbalance = 0.0
  /// Sums of this rank's seconds; the largest of any rank where a log is written.
  package var exposedCommunication = 0.0
  package var communicationTail = 0.0
  /// Seconds for which saving has held training up.
  private var saveStall = 0.0
  private var lastNorm = Double.nan
  private var lastLearningRate = 0.0

  package init() {}

  package var isEmpty: Bool { steps == 0 }

  package mutating func add(_ outcome: ORPOStep.Outcome, learningRate: Double, seconds: Double, operations: Double) {
    steps += 1
    if outcome.isSkipped {
      skipped += 1
    } else {
      metrics += outcome.metrics
      lastNorm = outcome.gradientNorm
    }
    self.seconds += seconds
    tokens += outcome.tokens
    floatingPointOperations += operations
    imbalance += outcome.imbalance
    exposedCommunication += outcome.exposedCommunication
    communicationTail += outcome.communicationTail
    lastLearningRate = learningRate
  }

  package mutating func addStall(_ seconds: Double) { saveStall += seconds }

  /// - Parameter peakGFLOPs: what all ranks' matrix products reach together; the denominator of `mfu`.
  /// - Returns: metrics that are NaN when every step was skipped.
  package func entry(
    step: Int, epoch: Double, peakGFLOPs: Double, peakMemoryGB: Double, skippedPairs: Int, skippedSteps: Int
  ) -> LogEntry {
    var named = metrics.named(steps: steps - skipped)
    if steps == skipped { named = named.map { ($0.name, .nan) } }
    var values = [named[0], ("grad_norm", lastNorm), ("learning_rate", lastLearningRate)] + named.dropFirst()
    values += [
      ("tokens_per_second", Double(tokens) / seconds), ("pairs_per_second", metrics.pairCount / seconds),
      ("step_time", seconds / Double(steps)), ("mfu", floatingPointOperations / seconds / (peakGFLOPs * 1e9)),
      ("imbalance", imbalance / Double(steps)), ("comm_time", exposedCommunication / Double(steps)),
      ("comm_tail_time", communicationTail / Double(steps)), ("save_stall_time", saveStall),
      ("peak_memory_gb", peakMemoryGB),
      ("skipped_pairs", Double(skippedPairs)),
      ("skipped_steps", Double(skippedSteps)),
    ]
    return LogEntry(step: step, epoch: epoch, metrics: values.map { LogEntry.Metric($0.0, $0.1) })
  }
}

// MARK: - Checkpoints between two logs

extension MetricWindow {
  /// The sums as they stand, so that a log that spans a resume says what it would have said.
  package var json: JSONValue {
    [
      "metrics": .array(metrics.values.map { .double($0) }), "steps": .integer(steps), "skipped": .integer(skipped),
      "seconds": .double(seconds), "tokens": .integer(tokens), "operations": .double(floatingPointOperations),
      "imbalance": .double(imbalance), "last_norm": .double(lastNorm), "last_learning_rate": .double(lastLearningRate),
      "exposed_communication": .double(exposedCommunication), "communication_tail": .double(communicationTail),
    ]
  }

  private static func count(_ json: JSONValue?) -> Int? {
    json?.integer.flatMap { (0...RunCheckpoint.mostCounted).contains($0) ? $0 : nil }
  }

  /// nil unless `json` wrote it.
  package init?(_ json: JSONValue) {
    guard let values = json["metrics"]?.array?.compactMap(\.double), values.count == ORPOMetrics.valueCount,
      let steps = Self.count(json["steps"]), let skipped = Self.count(json["skipped"]),
      let tokens = Self.count(json["tokens"]),
      let seconds = json["seconds"]?.double, let operations = json["operations"]?.double,
      let imbalance = json["imbalance"]?.double, let rate = json["last_learning_rate"]?.double
    else { return nil }
    metrics = ORPOMetrics(values: values)
    (self.steps, self.skipped, self.tokens, self.seconds) = (steps, skipped, tokens, seconds)
    (floatingPointOperations, self.imbalance, lastLearningRate) = (operations, imbalance, rate)
    lastNorm = json["last_norm"]?.double ?? .nan
    // Not in checkpoints written before there was overlap.
    exposedCommunication = json["exposed_communication"]?.double ?? 0
    communicationTail = json["communication_tail"]?.double ?? 0
  }
}
