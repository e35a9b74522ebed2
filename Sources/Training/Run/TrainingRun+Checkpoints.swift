import Checkpoints
import Collectives
import DataParallel
import Decoder
import Foundation
import JSON
import Tensors

/// A run's checkpoints: where it starts from, and what it leaves behind on the way.
extension TrainingRun {
  static let configurationFile = "orpo_config.yaml"

  /// All ranks get the checkpoint's parameters and state, and the moments they keep, from whichever ranks have its files on
  /// their disks. False when there is nothing to resume.
  func restore() throws -> Bool {
    guard let found = try findCheckpoint() else {
      if start != .automatic { job.note("no checkpoint in \(configuration.outputDir): starting from the beginning") }
      return false
    }
    try restoreState(found)
    step.optimizer.stepCount = progress.optimizerSteps
    try communicator.together {
      if communicator.rank == found.reader { try RunCheckpoint.loadModel(found.own, into: step.decoder) }
    }
    try communicator.broadcast(UnsafeMutableRawBufferPointer(step.decoder.parameters), root: found.reader)
    step.decoder.parametersChanged()
    try restoreMoments(found)
    return true
  }

  /// Where the run stands, checked by rank 0, which keeps its logs.
  private func restoreState(_ found: FoundCheckpoint) throws {
    func contents(_ name: String) throws -> [UInt8] {
      try communicator.from(found.reader) { try found.own.bytes(of: name) }
    }
    let stateText = try contents(RunCheckpoint.stateFile)
    let trainerText = try contents(RunCheckpoint.trainerStateFile)
    let settings = start == .automatic ? try contents(Self.configurationFile) : nil
    let bytes = try communicator.fromRoot {
      let stateFile = found.directory + "/" + RunCheckpoint.stateFile
      let stored: JSONValue
      do { stored = try JSONValue(parsing: stateText) } catch let error as JSONError {
        throw ResumeError("\(stateFile): \(error)")
      }
      if let settings { try requireSameRun(found.directory, settings) }
      try identity.check(stored, checkpoint: found.directory) { wanted in
        let perStep = configuration.perDeviceTrainBatchSize * communicator.worldSize
        return wanted % perStep == 0 ? wanted / perStep : nil
      }
      let progress = try RunCheckpoint.Progress(stored, checkpoint: found.directory)
      guard let window = stored["log_window"].flatMap(MetricWindow.init) else {
        throw ResumeError("\(stateFile): log_window is missing or damaged")
      }
      state = try TrainerState(parsing: trainerText, file: found.directory + "/" + RunCheckpoint.trainerStateFile)
      self.window = window
      job.note("continuing from \(found.directory)" + (found.reader == 0 ? "" : ", which rank \(found.reader) has"))
      if let planned = stored["total_steps"]?.integer, planned != totalSteps {
        job.note(
          "note: that run was to have \(planned) steps, this one has \(totalSteps): the learning rate follows the new schedule from here"
        )
      }
      return progress.bytes
    }
    progress = RunCheckpoint.Progress(bytes: bytes)
  }

  private func restoreMoments(_ found: FoundCheckpoint) throws {
    let stored = try communicator.together { try StoredMoments(found.own, step.decoder.layout) }
    let ends = stored.ranges.flatMap { [$0.lowerBound, $0.upperBound] }
    let parts = try communicator.allGather(ends.withUnsafeBytes { Array($0) }).enumerated().flatMap { rank, bytes in
      let ends = bytes.withUnsafeBytes { bytes in
        stride(from: 0, to: bytes.count, by: 8).map { bytes.loadUnaligned(fromByteOffset: $0, as: Int.self) }
      }
      return stride(from: 0, to: ends.count, by: 2).map { StoredPart(ends[$0]..<ends[$0 + 1], rank: rank) }
    }.sorted { $0.range.lowerBound < $1.range.lowerBound }
    try communicator.together {
      guard StoredPart.cover(parts, count: step.decoder.layout.count) else {
        throw ResumeError("\(found.directory): AdamW's moments of some parameters are missing or there twice")
      }
    }
    try MomentStream(step.optimizer, step.reducer, over: communicator.group(0)).fill(from: parts) {
      try stored.read($0, $1, into: $2)
    }
  }

  /// The checkpoint to go on from, on all ranks.
  private func findCheckpoint() throws -> FoundCheckpoint? {
    let search = CheckpointSearch(communicator: communicator)
    if case .checkpoint(let directory) = start { return try search.open(directory) }
    let (found, damaged) = try search.newest(in: store)
    for damaged in damaged {
      job.note("warning: \(damaged.name) cannot be used: \(damaged.reason)")
      journal?.append(
        "checkpoint_damaged", step: progress.step,
        [("name", .string(damaged.name)), ("reason", .string(damaged.reason))])
    }
    if found == nil, let damaged = damaged.first, start == .automatic {
      throw CheckpointSearch.Unusable(
        description:
          "\(configuration.outputDir) has no checkpoint that can be used (\(damaged.name): \(damaged.reason)); choose another output_dir, or begin anew there with --resume"
      )
    }
    return found
  }

  /// Whoever starts the same command again means to go on; whoever changed something that changes results must say so.
  private func requireSameRun(_ checkpoint: String, _ settings: [UInt8]) throws {
    guard let difference = configuration.differenceInResults(from: String(decoding: settings, as: UTF8.self)) else {
      return
    }
    throw ResumeError(
      "\(checkpoint) is of a run with \(difference.then), this one has \(difference.now): continue it with the new setting by --resume, or choose another output_dir"
    )
  }

  /// Begins to save `checkpoint-N`, which goes on while training does; that it cannot be written is a warning, and training
  /// goes on to the next save. Parameters of which ranks have different ones are not worth saving.
  func save(step done: Int) throws {
    try requireClaim(at: done)
    try requireSameParameters(at: done)
    for outcome in try writer.start(step: done, writing(step: done)) { note(outcome) }
  }

  /// Saves `checkpoint-N` and waits for it. Whether it could, on all ranks.
  func saveNow(step done: Int) throws -> Bool {
    try requireClaim(at: done)
    try requireSameParameters(at: done)
    for outcome in try writer.finish() { note(outcome) }
    let outcome = try writer.writeNow(step: done, writing(step: done))
    note(outcome)
    var failed = [outcome.failure == nil ? 0.0 : 1]
    try communicator.agree(max: &failed)
    return failed[0] == 0
  }

  /// What is done to write the checkpoint of this moment; the state is taken now, parameters and moments when they come.
  private func writing(step done: Int) -> CheckpointWriter.Body {
    let stateFiles = [
      (RunCheckpoint.trainerStateFile, Array(state.text.utf8)),
      (RunCheckpoint.stateFile, identity.bytes(progress, totalSteps: totalSteps, window: window)),
      (Self.configurationFile, Array(configuration.resolvedYAML.utf8)),
    ]
    let (store, modelFiles, limit) = (store, modelFiles, configuration.saveTotalLimit)
    let (layout, reducer) = (step.decoder.layout, step.reducer)
    func contents(_ parameters: UnsafeBufferPointer<Float>, _ moments: MomentFile) -> CheckpointContents {
      RunCheckpoint.contents(layout, parameters, moments: moments, modelFiles: modelFiles, stateFiles: stateFiles)
    }
    guard let disks else {
      return { content in
        let stream = MomentStream(content.moments, reducer, over: content.ranks)
        try stream.serving {
          _ = try store.save(step: done, contents: contents(content.parameters, MomentFiles.whole(layout, stream)))
          if let limit { _ = try store.prune(limit: limit) }
        }
      }
    }
    return { content in
      let ranks = content.ranks
      let shard = MomentFiles.shard(
        layout, MomentShard(content.moments, reducer), of: ranks.size, rank: ranks.rank)
      try ShardedSave(store: store, disks: disks, ranks: ranks).write(
        step: done,
        ranks.rank == 0
          ? contents(content.parameters, shard) : CheckpointContents(model: [], tensorFiles: [shard]),
        limit: limit)
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
    // Of several ranks one line each.
    let cause = "\(failure)".split(whereSeparator: \.isNewline).joined(separator: "; ")
    journal?.append("checkpoint_failed", step: outcome.step, [("error", .string(cause))])
    console?.note(
      "warning: checkpoint-\(outcome.step) could not be saved: \(cause); training goes on, earlier checkpoints are untouched"
    )
  }

  /// - Throws: on all ranks, when they hold different parameters: none of them can be trusted then.
  func requireSameParameters(at done: Int) throws {
    do {
      try communicator.requireSameParameters(step.decoder.parameters)
    } catch let difference as RankDifference {
      journal?.append("ranks_differ", step: done, [("message", .string("\(difference)"))])
      throw TrainingStopped(
        description: "after step \(done) \(difference); memory or the network of a host is not to be trusted. "
          + "The same command goes on from the last checkpoint, whose parameters were equal on all ranks",
        exitCode: TrainingStopped.startAgain)
    }
  }
}
