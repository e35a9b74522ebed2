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
    let newest = try newestCheckpoint()
    guard let found = try chosen(newest) else {
      if start != .automatic { job.note("no checkpoint in \(configuration.outputDir): starting from the beginning") }
      return false
    }
    try restoreState(found)
    if let newest, newest.step > found.step {
      throw CheckpointSearch.Unusable(
        description:
          "\(configuration.outputDir) holds \(CheckpointStore.name(newest.step)), of another course of training than the one that is to go on from \(found.directory): move its later checkpoints away, or choose another output_dir"
      )
    }
    step.optimizer.stepCount = progress.optimizerSteps
    try communicator.together {
      if communicator.rank == found.reader { try RunCheckpoint.loadModel(found.own, into: step.decoder) }
    }
    try communicator.broadcast(UnsafeMutableRawBufferPointer(step.decoder.parameters), root: found.reader)
    step.decoder.parametersChanged()
    try restoreMoments(found)
    return true
  }

  /// A file of the run's state in a checkpoint, on all ranks.
  private func contents(_ name: String, of found: FoundCheckpoint) throws -> [UInt8] {
    try communicator.from(found.reader) { try found.own.bytes(of: name, limit: RunCheckpoint.mostStateBytes) }
  }

  /// Where the run stands, which rank 0 checks. All ranks get `progress`, rank 0 what it keeps for all: logs and their state.
  private func restoreState(_ found: FoundCheckpoint) throws {
    let stateText = try contents(RunCheckpoint.stateFile, of: found)
    let trainerText = try contents(RunCheckpoint.trainerStateFile, of: found)
    let settings = start == .automatic ? try contents(Self.configurationFile, of: found) : nil
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
      guard progress.step == found.step else {
        throw ResumeError("\(stateFile): it is of step \(progress.step), the checkpoint of step \(found.step)")
      }
      guard let window = stored["log_window"].flatMap(MetricWindow.init) else {
        throw ResumeError("\(stateFile): log_window is missing or damaged")
      }
      state = try TrainerState(parsing: trainerText, file: found.directory + "/" + RunCheckpoint.trainerStateFile)
      self.window = window
      origin = stored[RunCheckpoint.originKey]?.string
      if case .checkpoint(let directory) = start, found.directory == directory { origin = Self.absolute(directory) }
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

  /// The newest checkpoint of the output folder that can be used, on all ranks; those that cannot are named.
  private func newestCheckpoint() throws -> FoundCheckpoint? {
    let search = CheckpointSearch(communicator: communicator)
    var (found, damaged) = try search.newest(in: store)
    // Another start of this run that saves at this moment may have removed the ones that were listed.
    if found == nil, !damaged.isEmpty { (found, damaged) = try search.newest(in: store) }
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

  /// The checkpoint to go on from, on all ranks. The command that named one, given again, goes on from what it has saved since.
  private func chosen(_ newest: FoundCheckpoint?) throws -> FoundCheckpoint? {
    guard case .checkpoint(let directory) = start else { return newest }
    if let newest, try isSameCourse(newest, from: directory) { return newest }
    return try CheckpointSearch(communicator: communicator).open(directory)
  }

  /// Whether a checkpoint is of a run with these settings that was told to begin with the one in `directory`.
  private func isSameCourse(_ found: FoundCheckpoint, from directory: String) throws -> Bool {
    let stateText = try contents(RunCheckpoint.stateFile, of: found)
    let settings = try contents(Self.configurationFile, of: found)
    let answer = try communicator.fromRoot {
      let origin = (try? JSONValue(parsing: stateText))?[RunCheckpoint.originKey]?.string
      let isSame =
        origin == Self.absolute(directory)
        && configuration.differenceInResults(from: String(decoding: settings, as: UTF8.self)) == nil
      return isSame ? [1] : []
    }
    return !answer.isEmpty
  }

  private static func absolute(_ path: String) -> String { URL(filePath: path).standardizedFileURL.path }

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
    job.progress.enter(.checkpoint)
    try requireClaim(at: done)
    try requireSameParameters(at: done)
    for outcome in try writer.start(step: done, writing(step: done)) { note(outcome) }
  }

  /// Saves `checkpoint-N` and waits for it. Whether it could, on all ranks.
  func saveNow(step done: Int) throws -> Bool {
    job.progress.enter(.checkpoint)
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
      (RunCheckpoint.stateFile, identity.bytes(progress, totalSteps: totalSteps, window: window, origin: origin)),
      (Self.configurationFile, Array(configuration.resolvedYAML.utf8)),
    ]
    let (store, modelFiles, limit) = (store, modelFiles, configuration.saveTotalLimit)
    let (layout, reducer) = (step.decoder.layout, step.reducer)
    func contents(_ parameters: UnsafeBufferPointer<Float>, _ moments: MomentFile) -> CheckpointContents {
      RunCheckpoint.contents(layout, parameters, moments: moments, modelFiles: modelFiles, stateFiles: stateFiles)
    }
    guard let disks else {
      return { snapshot in
        let stream = MomentStream(snapshot.moments, reducer, over: snapshot.ranks)
        return try stream.serving {
          try store.save(step: done, contents: contents(snapshot.parameters, MomentFiles.whole(layout, stream)))
          return try Self.failure { if let limit { try store.prune(keeping: limit, upTo: done) } }
        }
      }
    }
    return { snapshot in
      let ranks = snapshot.ranks
      let shard = MomentFiles.shard(
        layout, MomentShard(snapshot.moments, reducer), of: ranks.size, rank: ranks.rank)
      let save = ShardedSave(store: store, disks: disks, ranks: ranks)
      try save.write(
        step: done,
        ranks.rank == 0
          ? contents(snapshot.parameters, shard) : CheckpointContents(model: [], tensorFiles: [shard]))
      return try Self.failure { if let limit { try save.prune(keeping: limit, upTo: done) } }
    }
  }

  /// Why something failed that a run can do without; what MPI says is the run's failure.
  private static func failure(_ body: () throws -> Void) throws -> (any Error)? {
    do { try body() } catch let error as MPIError { throw error } catch { return error }
    return nil
  }

  /// What became of a checkpoint.
  func note(_ outcome: CheckpointWriter.Outcome) {
    window.addStall(outcome.stallSeconds)
    guard let failure = outcome.failure else {
      journal?.append(
        "checkpoint_saved", step: outcome.step,
        [("stall_seconds", .double(outcome.stallSeconds)), ("write_seconds", .double(outcome.writeSeconds))])
      if let failure = outcome.removalFailure {
        console?.note(
          "warning: \(CheckpointStore.name(outcome.step)) is saved; older ones could not be removed (save_total_limit): \(Self.line(failure))"
        )
      }
      return
    }
    let cause = Self.line(failure)
    journal?.append("checkpoint_failed", step: outcome.step, [("error", .string(cause))])
    console?.note(
      "warning: checkpoint-\(outcome.step) could not be saved: \(cause); training goes on, earlier checkpoints are untouched"
    )
  }

  /// An error in a line; that of several ranks has one each.
  private static func line(_ error: any Error) -> String {
    "\(error)".split(whereSeparator: \.isNewline).joined(separator: "; ")
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
