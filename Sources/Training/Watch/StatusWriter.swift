import Checkpoints
import Foundation
import JSON
import ModelFiles

/// Keeps `status.json`, and Prometheus' file where one is asked for, up to date: at every change of state, and after
/// steps at most once a second. On rank 0.
///
/// Files are replaced, so that a reader never sees half of one, and not waited for until they are on the disk: after a
/// crash of the machine nobody needs the last second. A file that cannot be written is one warning.
package final class StatusWriter {
  package private(set) var status: RunStatus
  private let path: String
  private let prometheusFile: String?
  private let runName: String
  private let journal: RunJournal?
  private let warn: (String) -> Void
  private let now: () -> Double
  /// Durations are measured by this one: the other may be set while a run goes on.
  private let uptime: () -> Double
  private var lastWritten = -Double.infinity
  private var lastStepEnd: Double
  private var pairsPerStep: Double?
  private var warned: Set<String> = []

  /// Writes the first status.
  /// - Parameters:
  ///   - status: steps, ranks and newest checkpoint known at the start; process and time are filled in.
  ///   - journal: knows of checkpoints that are saved later.
  ///   - now: seconds since 1970.
  ///   - uptime: seconds of a clock that nobody sets.
  package init(
    outputDirectory: String, prometheusFile: String?, status: RunStatus, journal: RunJournal?,
    warn: @escaping (String) -> Void, now: @escaping () -> Double = { Date().timeIntervalSince1970 },
    uptime: @escaping () -> Double = { ProcessInfo.processInfo.systemUptime }
  ) {
    path = outputDirectory + "/" + RunStatus.fileName
    self.prometheusFile = prometheusFile
    runName = URL(fileURLWithPath: outputDirectory).lastPathComponent
    self.journal = journal
    self.warn = warn
    self.now = now
    self.uptime = uptime
    self.status = status
    lastStepEnd = uptime()
    self.status.began = now()
    self.status.pid = Int(getpid())
    self.status.pidStart = ProcessLook.start(of: Int(getpid()))
    write()
  }

  /// After a step. - Parameter seconds: of this step by itself.
  package func stepped(_ change: StepFigures) {
    let time = uptime()
    // The first step since the start has nothing before it to measure from but the start's own work.
    let measured = status.stepSeconds == nil ? change.seconds : time - lastStepEnd
    lastStepEnd = time
    let average = status.stepSeconds.map { $0 + (measured - $0) / 10 } ?? measured
    let pairs = pairsPerStep.map { $0 + (change.pairs - $0) / 10 } ?? change.pairs
    pairsPerStep = pairs
    status.state = .training
    status.step = change.step
    status.epoch = change.epoch
    (status.loss, status.gradientNorm) = (change.loss, change.gradientNorm)
    status.skippedSteps = change.skippedSteps
    status.stepSeconds = average
    status.pairsPerSecond = average > 0 ? pairs / average : nil
    status.secondsLeft = average * Double(max(status.totalSteps - change.step, 0))
    for (rank, seconds) in change.rankSeconds.enumerated() where rank < status.ranks.count {
      status.ranks[rank].seconds = seconds
    }
    if time - lastWritten >= 1 || change.step >= status.totalSteps { write() }
  }

  /// A change of state; on disk at once.
  package func enter(_ state: RunStatus.State, message: String? = nil) {
    status.state = state
    status.message = message
    if state.isLast { status.secondsLeft = nil }
    write()
  }

  /// The run ends because another start of it goes on: `status.json` is that one's, Prometheus' file on this host is not.
  package func giveUp(message: String) {
    status.state = .stopped
    status.message = message
    if let prometheusFile { attempt("prometheus_file", prometheusFile, status.prometheusText(run: runName)) }
  }

  /// A log entry or an evaluation; shown with the next write.
  package func logged(_ entry: LogEntry) {
    if entry["eval_loss"] != nil { status.evaluation = entry } else { status.log = entry }
  }

  package func peakMemory(_ gigabytes: [Double]) {
    for (rank, value) in gigabytes.enumerated() where rank < status.ranks.count {
      status.ranks[rank].peakMemoryGB = value
    }
  }

  private func write() {
    status.time = now()
    if let saved = journal?.lastCheckpoint { status.checkpoint = saved }
    lastWritten = uptime()
    attempt(RunStatus.fileName, path, status.json.serialized() + "\n")
    if let prometheusFile { attempt("prometheus_file", prometheusFile, status.prometheusText(run: runName)) }
  }

  private func attempt(_ name: String, _ path: String, _ text: String) {
    do {
      try AppendedFile.replace(path, with: Array(text.utf8), durably: false)
    } catch {
      if warned.insert(name).inserted { warn("warning: \(name): \(error); training goes on without it") }
    }
  }
}

/// What a step adds to the status.
package struct StepFigures {
  package var step: Int
  package var epoch: Double
  package var loss: Double
  package var gradientNorm: Double
  package var pairs: Double
  package var seconds: Double
  package var skippedSteps: Int
  /// Of each rank by itself; empty where unknown.
  package var rankSeconds: [Double]

  package init(
    step: Int, epoch: Double, loss: Double, gradientNorm: Double, pairs: Double, seconds: Double, skippedSteps: Int,
    rankSeconds: [Double]
  ) {
    (self.step, self.epoch, self.loss, self.gradientNorm) = (step, epoch, loss, gradientNorm)
    (self.pairs, self.seconds, self.skippedSteps, self.rankSeconds) = (pairs, seconds, skippedSteps, rankSeconds)
  }
}
