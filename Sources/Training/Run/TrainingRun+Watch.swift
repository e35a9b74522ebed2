import Checkpoints
import Collectives
import Foundation
import JSON
import ORPO
import Preferences

/// What a run leaves for those who watch from outside: the journal of what happened, and the status of the moment.
extension TrainingRun {
  /// Before anything that belongs into it can happen. An output folder that cannot be made ends the run, a journal that
  /// cannot be opened does not.
  func openJournal() throws {
    try communicator.together {
      guard job.isRoot else { return }
      try Folders.create(configuration.outputDir)
      do {
        journal = try RunJournal(path: configuration.outputDir + "/" + RunJournal.fileName)
      } catch { job.note("warning: \(RunJournal.fileName): \(error); training goes on without it") }
    }
  }

  func recordStart(resumed: Bool) throws {
    let hosts = try communicator.allGather(communicator.hostName)
    guard job.isRoot else { return }
    var names: [String] = []
    for host in hosts where !names.contains(host) { names.append(host) }
    journal?.append(
      resumed ? "resumed" : "started", step: progress.step,
      [
        ("ranks", .integer(communicator.worldSize)), ("hosts", .array(names.map { .string($0) })),
        ("total_steps", .integer(totalSteps)), ("version", .string(Version.text)),
      ])
    watch = StatusWriter(
      outputDirectory: configuration.outputDir, prometheusFile: configuration.prometheusFile,
      status: firstStatus(hosts), journal: journal
    ) { [job] in job.note($0) }
    do {
      try AppendedFile.replace(
        configuration.outputDir + "/" + RunFolder.dataReportFile, with: Array((dataReport.serialized() + "\n").utf8))
    } catch { job.note("warning: \(error); training goes on without it") }
  }

  private func firstStatus(_ hosts: [String]) -> RunStatus {
    var status = RunStatus()
    status.host = communicator.hostName
    status.ranks = hosts.map { RunStatus.Rank(host: $0) }
    (status.firstStep, status.step, status.totalSteps) = (progress.step, progress.step, totalSteps)
    status.epoch = step.sampler.epoch(afterSteps: progress.step)
    status.skippedSteps = progress.skippedSteps
    if let newest = try? store.newest() {
      var manifest = stat()
      if stat(newest.directory + "/checkpoint.json", &manifest) == 0 {
        status.checkpoint = .init(step: newest.step, time: Double(manifest.st_mtim.tv_sec))
      }
    }
    return status
  }

  func figures(_ outcome: ORPOStep.Outcome, seconds: Double) -> StepFigures {
    StepFigures(
      step: progress.step, epoch: state.epoch, loss: outcome.metrics.loss, gradientNorm: outcome.gradientNorm,
      pairs: outcome.metrics.pairCount, seconds: seconds,
      skippedSteps: progress.skippedSteps + (outcome.isSkipped ? 1 : 0), rankSeconds: outcome.rankSeconds)
  }

  /// Does something that is not training, under its name.
  @discardableResult
  func reporting<Value>(_ state: RunStatus.State, _ body: () throws -> Value) rethrows -> Value {
    watch?.enter(state)
    let value = try body()
    watch?.enter(.training)
    return value
  }

  /// - Parameter error: what ended the run early; a stop that was asked for is none.
  func recordEnd(_ error: (any Error)? = nil) {
    guard let error else {
      journal?.append("finished", step: state.globalStep)
      watch?.enter(.finished)
      return
    }
    let message = "\(error)"
    let stop = error as? TrainingStopped
    switch stop?.exitCode {
    case TrainingStopped.startAgain where stop?.wasAsked == true:
      journal?.append("stopped", step: state.globalStep, [("message", .string(message))])
      watch?.enter(.stopped, message: message)
    case TrainingStopped.takenOver:
      journal?.append("taken_over", step: state.globalStep, [("message", .string(message))])
      watch?.giveUp(message: message)
    default:
      journal?.append("failed", step: state.globalStep, [("message", .string(message))])
      watch?.enter(.failed, message: message)
    }
  }
}

extension RunData {
  /// The reports of the files that were read, for the output folder.
  var reportJSON: JSONValue {
    [
      "training": trainingReport?.json() ?? .null,
      "evaluation": evaluationReport?.json() ?? .null,
      "training_pairs": .integer(training.count), "evaluation_pairs": .integer(evaluation.count),
    ]
  }
}
