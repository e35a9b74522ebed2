import Checkpoints
import Collectives
import Foundation
import JSON
import ModelFiles

/// A run that a signal asks to end: all ranks save at the same step and leave with the exit code that means "start me again".
extension TrainingRun {
  /// Saves and ends the run, on all ranks. To be called when any rank was asked to stop.
  func stop(step done: Int) throws -> Never {
    try logReason(at: done)
    let isSaved = try saveNow(step: done)
    let isEarlier = try communicator.together {
      guard job.isRoot || disks != nil else { return false }
      return try store.newest() != nil
    }
    let earlier = try communicator.allGather(isEarlier ? 1 : 0).contains(1)
    log?.finish()
    console?.finish()
    if isSaved {
      throw TrainingStopped(
        description:
          "stopped at step \(done) of \(totalSteps), checkpoint-\(done) is complete: the same command goes on from there",
        exitCode: TrainingStopped.startAgain, wasAsked: true)
    }
    throw TrainingStopped(
      description: "stopped at step \(done) of \(totalSteps), which could not be saved"
        + (earlier ? "; the same command goes on from an earlier checkpoint" : ""),
      exitCode: earlier ? TrainingStopped.startAgain : 1, wasAsked: true)
  }

  /// Ends a run that was asked to before its first step: there is nothing to save that is not saved.
  func stopBeforeTraining() throws {
    var asks = [StopSignals.received == nil ? 0.0 : 1]
    try communicator.agree(max: &asks)
    guard asks[0] > 0 else { return }
    try logReason(at: progress.step)
    log?.finish()
    throw TrainingStopped(
      description: "stopped before step \(progress.step + 1) of \(totalSteps): the same command begins here again",
      exitCode: TrainingStopped.startAgain, wasAsked: true)
  }

  /// Which rank was asked by which signal.
  private func logReason(at done: Int) throws {
    let signals = try communicator.allGather(StopSignals.received ?? "")
    let hosts = try communicator.allGather(communicator.hostName)
    let named = signals.indices.filter { !signals[$0].isEmpty }
    guard let first = named.first else { return }
    let others = named.count > 1 ? " and \(named.count - 1) more" : ""
    let text = "\(signals[first]) to rank \(first) on \(hosts[first])\(others): stopping at step \(done)"
    if let console { console.note(text) } else { job.note(text) }
    journal?.append("signal", step: done, [("message", .string(text))])
    watch?.enter(.saving)
  }

  /// Whether the model of this run, which is over, lies in the output folder: not one of fewer steps, nor one that was being
  /// written when the run ended.
  func hasFinalModel() throws -> Bool {
    let found = try communicator.fromRoot {
      let path = configuration.outputDir + "/" + RunCheckpoint.trainerStateFile
      guard let bytes = try? ReadableFile.contents(ifPresent: path, limit: RunCheckpoint.mostStateBytes),
        let saved = try? TrainerState(parsing: bytes, file: path), saved.isSamePoint(as: state),
        (try? SafetensorsFolder(directory: configuration.outputDir)) != nil
      else { return [] }
      return [1]
    }
    return !found.isEmpty
  }
}
