import Collectives
import DataParallel
import Decoder
import Kernels
import Timeline

/// Records what all ranks do in some steps, and brings it together on rank 0 in one clock.
final class StepRecorder {
  private let job: Job
  private let timeline: Timeline
  /// This rank's clock against rank 0's, in nanoseconds.
  private let clockOffset: Int64

  /// A collective call.
  ///
  /// - Parameter steps: what will be recorded; memory is taken for their spans.
  init(_ job: Job, step: ORPOStep, steps: Range<Int>) throws {
    self.job = job
    timeline = Timeline(capacity: step.spanCount(steps))
    clockOffset = try job.communicator.clockOffset(now: Timeline.now)
  }

  /// Records what `body` does.
  func record<Result>(_ body: () throws -> Result) rethrows -> Result {
    job.pool.timeline = timeline
    defer { job.pool.timeline = nil }
    return try body()
  }

  /// All ranks' spans in rank 0's time, in rank order; nil on the other ranks. A collective call.
  func gather() throws -> [RankSpans]? {
    let own = RankSpans(timeline, clockOffset: clockOffset)
    timeline.removeAll()
    return try job.communicator.gather(own.bytes)?.map { RankSpans(bytes: $0) }
  }
}

extension ORPOStep {
  /// More spans than this rank records in `steps`.
  fileprivate func spanCount(_ steps: Range<Int>) -> Int {
    let perMicroBatch = 80 * decoder.configuration.numHiddenLayers + 4096
    return steps.reduce(0) { count, index in
      count + 256 + 4 * reducer.plan.bucketCount + perMicroBatch * microBatchCount(index)
    }
  }
}
