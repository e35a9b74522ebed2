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
    try MomentStream(step.optimizer, step.reducer, over: communicator.group(0)).fill {
      try moments?.read($0, $1, into: $2)
    }
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

  /// Begins to save `checkpoint-N`, which goes on while training does; that it cannot be written is a warning, and training
  /// goes on to the next save. Parameters of which ranks have different ones are not worth saving.
  func save(step done: Int) throws {
    try requireSameParameters(at: done)
    for outcome in try writer.start(step: done, writing(step: done)) { note(outcome) }
  }

  /// Saves `checkpoint-N` and waits for it. Whether it could, on all ranks.
  func saveNow(step done: Int) throws -> Bool {
    try requireSameParameters(at: done)
    for outcome in try writer.finish() { note(outcome) }
    let outcome = try writer.writeNow(step: done, writing(step: done))
    note(outcome)
    var failed = [outcome.failure == nil ? 0.0 : 1]
    try communicator.agree(max: &failed)
    return failed[0] == 0
  }

  /// What rank 0 does to write the checkpoint of this moment; the state is taken now, parameters and moments when they come.
  private func writing(step done: Int) -> CheckpointWriter.Body {
    let files = [
      (RunCheckpoint.trainerStateFile, Array(state.text.utf8)),
      (RunCheckpoint.stateFile, identity.bytes(progress, totalSteps: totalSteps, window: window)),
      (Self.configurationFile, Array(configuration.resolvedYAML.utf8)),
    ]
    let (store, modelFiles, limit) = (store, modelFiles, configuration.saveTotalLimit)
    let layout = step.decoder.layout
    return { parameters, moments in
      _ = try store.save(
        step: done,
        contents: RunCheckpoint.contents(
          layout, parameters, moments: moments, modelFiles: modelFiles, stateFiles: files))
      if let limit { _ = try store.prune(limit: limit) }
    }
  }

  /// What became of a checkpoint.
  func note(_ outcome: CheckpointWriter.Outcome) {
    window.addStall(outcome.stallSeconds)
    guard let failure = outcome.failure else {
      journal?.append(
        "checkpoint_saved", step: outcome.step,
        [("stall_seconds", .double(outcome.stallSeconds)), ("write_seconds", .double(outcome.writeSeconds))])
      return
    }
    journal?.append("checkpoint_failed", step: outcome.step, [("error", .string("\(failure)"))])
    console?.note(
      "warning: checkpoint-\(outcome.step) could not be saved: \(failure); training goes on, earlier checkpoints are untouched"
    )
  }

  /// - Throws: on all ranks, when they hold different parameters: none of them can be trusted then.
  func requireSameParameters(at done: Int) throws {
    do {
      try communicator.requireSameParameters(step.decoder.parameters)
    } catch let difference as RankDifference {
      throw TrainingStopped(
        description: "after step \(done) \(difference); memory or the network of a host is not to be trusted. "
          + "The same command goes on from the last checkpoint, whose parameters were equal on all ranks",
        exitCode: TrainingStopped.startAgain)
    }
  }
}
