import Collectives
import ModelFiles
import Timeline

/// `trace: true`: the timeline of a few steps of a run, after its first, as a file for chrome://tracing and Perfetto.
final class StepTrace {
  /// The steps that are recorded, counted from 0.
  let steps: Range<Int>
  private let job: Job
  private let recorder: StepRecorder

  /// A collective call. nil when the run ends before there is a step to record.
  ///
  /// - Parameter first: the first step of the run, which warms up and is left out.
  init?(_ job: Job, step: ORPOStep, after first: Int, steps count: Int, totalSteps: Int) throws {
    guard first + 1 < totalSteps else { return nil }
    steps = (first + 1)..<min(first + 1 + count, totalSteps)
    self.job = job
    recorder = try StepRecorder(job, step: step, steps: steps)
  }

  func isLast(_ index: Int) -> Bool { index == steps.upperBound - 1 }

  /// A collective call, after the last step.
  ///
  /// - Throws: `FileError` on rank 0 alone when the file cannot be written; `MPIError`.
  func write(to path: String) throws {
    let hosts = try job.communicator.allGather(job.communicator.hostName)
    guard let ranks = try recorder.gather() else { return }
    let dropped = ranks.reduce(0) { $0 + $1.droppedCount }
    if dropped > 0 { job.note("warning: \(dropped) spans of the timeline found no room") }
    try AppendedFile.replace(path, with: ChromeTrace.bytes(ranks, hosts: hosts))
  }

  fileprivate func recording<Result>(_ index: Int, _ body: () throws -> Result) rethrows -> Result {
    steps.contains(index) ? try recorder.record(body) : try body()
  }
}

extension StepTrace? {
  /// Runs step `index`, recorded when it is one of the trace's.
  func recording<Result>(_ index: Int, _ body: () throws -> Result) rethrows -> Result {
    try self?.recording(index, body) ?? body()
  }
}
