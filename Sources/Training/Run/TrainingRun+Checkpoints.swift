import Checkpoints
import Collectives
import DataParallel
import Decoder
import Foundation
import JSON

/// A run's checkpoints: where it starts from, and what it leaves behind on the way.
extension TrainingRun {
  static let configurationFile = "orpo_config.yaml"

  /// Rank 0 reads the checkpoint, all ranks get parameters and state, and the moments they keep. False when there is
  /// nothing to resume.
  func restore() throws -> Bool {
    var moments: RunCheckpoint.Moments?
    let bytes = try communicator.fromRoot {
      guard let checkpoint = try findCheckpoint() else { return [] }
      let stateFile = checkpoint.directory + "/" + RunCheckpoint.stateFile
      let stored: JSONValue
      do { stored = try JSONValue(parsing: checkpoint.bytes(of: RunCheckpoint.stateFile)) } catch let error as JSONError
      {
        throw ResumeError("\(stateFile): \(error)")
      }
      if start == .automatic { try requireSameRun(checkpoint) }
      try identity.check(stored, checkpoint: checkpoint.directory) { wanted in
        let perStep = configuration.perDeviceTrainBatchSize * communicator.worldSize
        return wanted % perStep == 0 ? wanted / perStep : nil
      }
      let progress = try RunCheckpoint.Progress(stored, checkpoint: checkpoint.directory)
      guard let window = stored["log_window"].flatMap(MetricWindow.init) else {
        throw ResumeError("\(stateFile): log_window is missing or damaged")
      }
      let text = try checkpoint.bytes(of: RunCheckpoint.trainerStateFile)
      state = try TrainerState(parsing: text, file: checkpoint.directory + "/" + RunCheckpoint.trainerStateFile)
      moments = try RunCheckpoint.load(checkpoint, decoder: step.decoder)
      self.window = window
      job.note("continuing from \(checkpoint.directory)")
      if let planned = stored["total_steps"]?.integer, planned != totalSteps {
        job.note(
          "note: that run was to have \(planned) steps, this one has \(totalSteps): the learning rate follows the new schedule from here"
        )
      }
      return progress.bytes
    }
    guard !bytes.isEmpty else {
      if start != .automatic { job.note("no checkpoint in \(configuration.outputDir): starting from the beginning") }
      return false
    }
    progress = RunCheckpoint.Progress(bytes: bytes)
    step.optimizer.stepCount = progress.optimizerSteps
    try communicator.broadcast(UnsafeMutableRawBufferPointer(step.decoder.parameters))
    step.decoder.parametersChanged()
    try MomentStream(step.optimizer, step.reducer).fill { try moments?.read($0, $1, into: $2) }
    return true
  }

  func findCheckpoint() throws -> Checkpoint? {
    if case .checkpoint(let directory) = start {
      let checkpoint = try Checkpoint(directory: directory)
      try checkpoint.verify()
      return checkpoint
    }
    let search = try store.newest()
    for damaged in search.damaged {
      job.note("warning: \(damaged.name) cannot be used: \(damaged.reason)")
      journal?.append(
        "checkpoint_damaged", step: progress.step,
        [("name", .string(damaged.name)), ("reason", .string(damaged.reason))])
    }
    if search.checkpoint == nil, let damaged = search.damaged.first, start == .automatic {
      throw ResumeError(
        "\(configuration.outputDir) has no checkpoint that can be used (\(damaged.name): \(damaged.reason)); choose another output_dir, or begin anew there with --resume"
      )
    }
    return search.checkpoint
  }

  /// Whoever starts the same command again means to go on; whoever changed something that changes results must say so.
  func requireSameRun(_ checkpoint: Checkpoint) throws {
    let then = String(decoding: try checkpoint.bytes(of: Self.configurationFile), as: UTF8.self)
    guard let difference = configuration.differenceInResults(from: then) else { return }
    throw ResumeError(
      "\(checkpoint.directory) is of a run with \(difference.then), this one has \(difference.now): continue it with the new setting by --resume, or choose another output_dir"
    )
  }

  /// Rank 0 writes `checkpoint-N`, the others send it their moments; that it cannot write is a warning, and training
  /// goes on to the next save. Whether it could, on all ranks.
  @discardableResult
  func save(step done: Int) throws -> Bool {
    let moments = MomentStream(step.optimizer, step.reducer)
    try communicator.barrier()
    var failed = [0.0]
    do {
      try moments.serving { try write(moments, step: done) }
      journal?.append("checkpoint_saved", step: done)
    } catch let error as MPIError {
      throw error
    } catch {
      failed = [1]
      journal?.append("checkpoint_failed", step: done, [("error", .string("\(error)"))])
      console?.note(
        "warning: checkpoint-\(done) could not be saved: \(error); training goes on, earlier checkpoints are untouched")
    }
    try communicator.agree(max: &failed)
    return failed[0] == 0
  }

  /// On rank 0.
  func write(_ moments: MomentStream, step done: Int) throws {
    let files = [
      (RunCheckpoint.trainerStateFile, Array(state.text.utf8)),
      (RunCheckpoint.stateFile, identity.bytes(progress, totalSteps: totalSteps, window: window)),
      (Self.configurationFile, Array(configuration.resolvedYAML.utf8)),
    ]
    _ = try store.save(
      step: done,
      contents: RunCheckpoint.contents(
        decoder: step.decoder, moments: moments, modelFiles: modelFiles, stateFiles: files))
    if let limit = configuration.saveTotalLimit { _ = try store.prune(limit: limit) }
  }
}
