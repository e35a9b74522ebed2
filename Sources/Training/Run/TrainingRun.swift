import Checkpoints
import Collectives
import DataParallel
import Decoder
import Foundation
import JSON
import Kernels
import ModelFiles
import ORPO
import Packing
import Preferences
import Tensors
package import Tokenization

/// `orpo-dist train`: from a configuration to a trained Hugging Face folder.
package final class TrainingRun {
  /// Where a run begins.
  package enum Start: Sendable, Equatable {
    case new
    /// From the newest complete checkpoint in `output_dir`.
    case newestCheckpoint
    case checkpoint(String)
  }

  private let configuration: TrainingConfiguration
  private let job: Job
  private let communicator: Communicator
  private let start: Start
  /// config.json, the tokenizer's files and such, on rank 0: read once, so that a model folder that changes or goes
  /// away does no harm.
  private let modelFiles: [(name: String, bytes: [UInt8])]
  private let step: ORPOStep
  private let evaluationPairs: [TokenizedPair]
  private let evaluationPlan: StepPlan?
  private let locations: [RowLocation]
  private let skippedPairs: Int
  private let totalSteps: Int
  private let schedule: LearningRateSchedule
  private let identity: RunCheckpoint.Identity
  private let store: CheckpointStore
  private let gigaflops: Double
  private let operationsPerPair: [Double]
  private var console: Console?
  private var log: MetricLog?
  private var state = TrainerState()
  private var window = MetricWindow()
  private var progress = RunCheckpoint.Progress()
  private var trace: StepTrace?

  /// A run whose steps are skipped this often in a row will not recover by itself.
  private static let skipLimit = 10

  /// Sets everything up: model, data, memory; all ranks together.
  package init(_ configuration: TrainingConfiguration, from start: Start, job: Job, chat: ChatRenderer?) throws {
    self.configuration = configuration
    self.start = start
    self.job = job
    communicator = job.communicator
    store = CheckpointStore(outputDirectory: configuration.outputDir)
    try OutputFolder.check(configuration, store, start, job)
    let (source, decoderConfiguration) = try job.openModel(configuration.modelNameOrPath)
    modelFiles = try job.communicator.together { try source?.files() ?? [] }
    let data = try job.loadData(configuration, source: source, chat: chat)
    chat?.stop()
    if let report = data.trainingReport { job.note(report.text()) }
    let decoder = try job.makeDecoder(
      decoderConfiguration, from: source, precision: job.precision(configuration.bf16))
    let cost = decoderConfiguration.pairCost(parameters: decoder.layout.count)
    let sampler = GlobalBatchSampler(
      measures: data.training.map { PairMeasure($0, cost: cost) },
      shape: BatchShape(
        perDevice: configuration.perDeviceTrainBatchSize, accumulation: configuration.gradientAccumulationSteps,
        worldSize: communicator.worldSize),
      seed: UInt64(bitPattern: Int64(configuration.seed)), shuffle: configuration.shuffle,
      normalization: configuration.lossNormalization, nllTokens: configuration.nllTokens)
    operationsPerPair = data.training.map { cost($0) }
    evaluationPairs = data.evaluation
    evaluationPlan =
      data.evaluation.isEmpty
      ? nil
      : GlobalBatchSampler.evaluationPlan(
        measures: data.evaluation.map { PairMeasure($0, cost: cost) }, worldSize: communicator.worldSize,
        deviceBatch: configuration.perDeviceEvalBatchSize, normalization: configuration.lossNormalization,
        nllTokens: configuration.nllTokens)
    step = try ORPOStep(
      decoder: decoder, pairs: data.training, sampler: sampler, objective: configuration.objective,
      hyperparameters: configuration.hyperparameters, maxGradNorm: configuration.maxGradNorm,
      memory: configuration.stepMemory, communicator: communicator, pool: job.pool, zeroStage: configuration.zeroStage,
      wireDType: configuration.wireDType, evaluationPairs: data.evaluation)
    locations = data.locations
    skippedPairs = data.trainingReport?.rowsLeftOut ?? 0
    totalSteps = configuration.totalSteps(pairs: data.training.count, worldSize: communicator.worldSize)
    schedule = configuration.learningRateSchedule(totalSteps: totalSteps)
    identity = RunCheckpoint.Identity(
      globalBatch: configuration.globalBatch(worldSize: communicator.worldSize), pairs: data.training.count,
      dataDigest: String(PreferenceDataset.fingerprint(of: data.training), radix: 16),
      seed: configuration.seed,
      shuffle: configuration.shuffle)
    gigaflops = MachineSpeed.matmulGFLOPs(job.pool, precision: decoder.precision)
  }

  /// Trains to the end and writes the model.
  package func run() throws {
    // An error message begins on a line of its own.
    defer { console?.finish() }
    let first = try begin()
    try reportStart()
    try beginTrace(first: first)
    if first == 0, configuration.evalOnStart { try evaluate(step: 0) }
    for index in first..<max(totalSteps, first) { try train(index) }
    try finish()
  }

  // MARK: - One step

  private func train(_ index: Int) throws {
    let learningRate = schedule[index]
    let began = ProcessInfo.processInfo.systemUptime
    let outcome = try trace.recording(index) { try step.run(index, learningRate: learningRate) }
    let seconds = ProcessInfo.processInfo.systemUptime - began
    if let trace, trace.isLast(index) { try finishTrace(trace) }
    let plan = step.sampler.plan(step: index)
    let operations = plan.pairs.reduce(0) { $0 + operationsPerPair[$1] }
    window.add(outcome, learningRate: learningRate, seconds: seconds, operations: operations)

    let done = index + 1
    state.globalStep = done
    state.totalFlos += operations
    state.epoch = step.sampler.epoch(afterSteps: done)
    state.numInputTokensSeen += outcome.tokens
    console?.progress(
      step: done, loss: outcome.metrics.loss, margin: outcome.metrics.margins / max(outcome.metrics.pairCount, 1),
      tokensPerSecond: Double(outcome.tokens) / seconds)
    progress.step = done
    progress.optimizerSteps = step.optimizer.stepCount
    try noteSkip(outcome, plan)
    if done % configuration.loggingInterval(total: totalSteps) == 0 || done == totalSteps { try logWindow() }
    if let interval = configuration.evalInterval(total: totalSteps), done % interval == 0, done < totalSteps {
      try evaluate(step: done)
    }
    if done == totalSteps { try evaluate(step: done) }
    if let interval = configuration.saveInterval(total: totalSteps), done % interval == 0 { try save(step: done) }
  }

  private func noteSkip(_ outcome: ORPOStep.Outcome, _ plan: StepPlan) throws {
    guard outcome.isSkipped else {
      progress.skippedInARow = 0
      return
    }
    progress.skippedSteps += 1
    progress.skippedInARow += 1
    let names = plan.pairs.prefix(4).compactMap { locations.indices.contains($0) ? "\(locations[$0])" : nil }
    console?.note(
      "warning: step \(progress.step) skipped: loss \(ProgressLine.number(outcome.metrics.loss)), grad_norm \(ProgressLine.number(outcome.gradientNorm)); "
        + "its pairs begin with \(names.joined(separator: ", "))")
    guard progress.skippedInARow >= Self.skipLimit else { return }
    try logWindow()
    throw TrainingStopped(
      description:
        "stopped at step \(progress.step): loss or gradient was not finite in \(progress.skippedInARow) steps in a row; "
        + "no model was written, checkpoints are as they were. Continue from one with a lower learning_rate, or check the model's weights"
    )
  }

  // MARK: - Trace

  private func beginTrace(first: Int) throws {
    guard configuration.trace else { return }
    trace = try StepTrace(job, step: step, after: first, steps: configuration.traceSteps, totalSteps: totalSteps)
    if trace == nil { job.note("note: no trace is written: the run has no second step to record") }
  }

  /// Rank 0 writes the file; a failure is a warning.
  private func finishTrace(_ trace: StepTrace) throws {
    self.trace = nil
    let path = configuration.outputDir + "/trace.json"
    do {
      try trace.write(to: path)
      job.note("the timeline of steps \(trace.steps.lowerBound + 1) to \(trace.steps.upperBound) is in \(path)")
    } catch let error as FileError {
      console?.note("warning: \(error); training goes on without the timeline")
    }
  }

  // MARK: - Logs and evaluation

  private func logWindow() throws {
    guard !window.isEmpty else { return }
    var peaks = [ProcessMemory.peakGB, window.exposedCommunication, window.communicationTail]
    try communicator.agree(max: &peaks)
    (window.exposedCommunication, window.communicationTail) = (peaks[1], peaks[2])
    let entry = window.entry(
      step: state.globalStep, epoch: state.epoch, peakGFLOPs: gigaflops * Double(communicator.worldSize),
      peakMemoryGB: peaks[0], skippedPairs: skippedPairs, skippedSteps: progress.skippedSteps)
    write(entry)
    window = MetricWindow()
  }

  private func evaluate(step done: Int) throws {
    guard let evaluationPlan else { return }
    let began = ProcessInfo.processInfo.systemUptime
    let metrics = try step.evaluate(evaluationPairs, plan: evaluationPlan)
    let seconds = ProcessInfo.processInfo.systemUptime - began
    let values =
      metrics.named(prefix: "eval_") + [
        ("eval_runtime", seconds), ("eval_pairs_per_second", metrics.pairCount / seconds),
      ]
    write(
      LogEntry(
        step: done, epoch: step.sampler.epoch(afterSteps: done), metrics: values.map { .init($0.0, $0.1) }))
  }

  private func write(_ entry: LogEntry) {
    state.logHistory.append(entry)
    log?.write(entry)
  }

  // MARK: - Begin and end

  /// Loads the checkpoint to start from, opens the logs, and returns the first step to run.
  private func begin() throws -> Int {
    let resumed = try restore()
    let first = progress.step
    state.maxSteps = totalSteps
    state.loggingSteps = configuration.loggingInterval(total: totalSteps)
    state.evalSteps = configuration.evalInterval(total: totalSteps)
    state.saveSteps = configuration.saveInterval(total: totalSteps)
    state.trainBatchSize = configuration.perDeviceTrainBatchSize
    state.numTrainEpochs = (totalSteps + step.sampler.stepsPerEpoch - 1) / step.sampler.stepsPerEpoch
    try communicator.together {
      guard job.isRoot else { return }
      try openOutput()
      let console = Console(totalSteps: totalSteps, firstStep: first)
      let log = MetricLog([console]) { console.note("warning: \($0)") }
      log.addFiles(of: configuration, resumingAt: resumed ? first : nil)
      self.console = console
      self.log = log
    }
    return first
  }

  private func openOutput() throws {
    try Folders.create(configuration.outputDir)
    try AppendedFile.replace(
      configuration.outputDir + "/orpo_config.yaml", with: Array(configuration.resolvedYAML.utf8))
  }

  /// Rank 0 reads the checkpoint, all ranks get parameters and state, and the moments they keep. False when there is
  /// nothing to resume.
  private func restore() throws -> Bool {
    if start == .new { return false }
    var moments: RunCheckpoint.Moments?
    let bytes = try communicator.fromRoot {
      guard let checkpoint = try findCheckpoint() else { return [] }
      let stateFile = checkpoint.directory + "/" + RunCheckpoint.stateFile
      let stored: JSONValue
      do { stored = try JSONValue(parsing: checkpoint.bytes(of: RunCheckpoint.stateFile)) } catch let error as JSONError
      {
        throw ResumeError("\(stateFile): \(error)")
      }
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
      job.note("no checkpoint in \(configuration.outputDir): starting from the beginning")
      return false
    }
    progress = RunCheckpoint.Progress(bytes: bytes)
    step.optimizer.stepCount = progress.optimizerSteps
    try communicator.broadcast(UnsafeMutableRawBufferPointer(step.decoder.parameters))
    step.decoder.parametersChanged()
    try MomentStream(step.optimizer, step.reducer).fill { try moments?.read($0, $1, into: $2) }
    return true
  }

  private func findCheckpoint() throws -> Checkpoint? {
    if case .checkpoint(let directory) = start {
      let checkpoint = try Checkpoint(directory: directory)
      try checkpoint.verify()
      return checkpoint
    }
    let search = try store.newest()
    for damaged in search.damaged { job.note("warning: \(damaged.name) cannot be used: \(damaged.reason)") }
    return search.checkpoint
  }

  private func reportStart() throws {
    let hosts = try communicator.allGather(communicator.nodeLeader)
    try job.warnAboutThreads()
    let report = StartReport(
      configuration: configuration, decoder: step.decoder.configuration, parameters: step.decoder.layout.count,
      training: step.pairs, evaluationPairs: evaluationPairs.count, worldSize: communicator.worldSize,
      hosts: Set(hosts).count, threads: job.pool.threadCount, stepsPerEpoch: step.sampler.stepsPerEpoch,
      totalSteps: totalSteps, optimizerBytes: optimizerBytes, communication: communicationText,
      reservedBytes: step.decoder.reservedBytes, instructionSet: Matmul.instructionSet, gigaflops: gigaflops,
      precision: step.decoder.precision
    )
    job.note(report.text)
    if let warning = step.reducer.mesh.warning { job.note("warning: \(warning)") }
    if configuration.wireDType != .fp32, step.reducer.mesh.grid.nodeCount == 1 {
      job.note("note: wire_dtype has no effect: all ranks are on one node, and nothing travels between nodes")
    }
  }

  /// Of the rank that holds most.
  private var optimizerBytes: Int {
    let plan = step.reducer.plan
    let shares = (0..<communicator.worldSize).map { plan.slices(of: $0).reduce(0) { $0 + $1.count } }
    return 8 * (configuration.zeroStage == 0 ? plan.valueCount : shares.max() ?? 0)
  }

  private var communicationText: String? {
    let reducer = step.reducer
    guard communicator.worldSize > 1 else { return nil }
    let buckets = reducer.plan.bucketCount
    return "\(buckets) bucket\(buckets == 1 ? "" : "s") through \(reducer.mesh.description)"
      + (configuration.wireDType == .fp32 ? "" : " as \(configuration.wireDType.rawValue)")
      + (reducer.overlaps ? ", while backward goes on" : ", after each other: MPI gives no thread of its own")
      + "; zero_stage \(configuration.zeroStage)"
      + (configuration.zeroStage == 0 ? "" : ": each rank keeps AdamW's moments of its share")
  }

  /// Rank 0 writes `checkpoint-N`, the others send it their moments; that it cannot write is a warning, and training
  /// goes on to the next save.
  private func save(step done: Int) throws {
    let moments = MomentStream(step.optimizer, step.reducer)
    try communicator.barrier()
    do {
      try moments.serving { try write(moments, step: done) }
    } catch let error as MPIError {
      throw error
    } catch {
      console?.note(
        "warning: checkpoint-\(done) could not be saved: \(error); training goes on, earlier checkpoints are untouched")
    }
  }

  /// On rank 0.
  private func write(_ moments: MomentStream, step done: Int) throws {
    let files = [
      (RunCheckpoint.trainerStateFile, Array(state.text.utf8)),
      (RunCheckpoint.stateFile, identity.bytes(progress, totalSteps: totalSteps, window: window)),
      ("orpo_config.yaml", Array(configuration.resolvedYAML.utf8)),
    ]
    _ = try store.save(
      step: done,
      contents: RunCheckpoint.contents(
        decoder: step.decoder, moments: moments, modelFiles: modelFiles, stateFiles: files))
    if let limit = configuration.saveTotalLimit { _ = try store.prune(limit: limit) }
  }

  private func finish() throws {
    try communicator.requireSameParameters(step.decoder.parameters)
    try communicator.together {
      guard job.isRoot else { return }
      try store.saveModel(
        RunCheckpoint.contents(
          decoder: step.decoder, moments: nil, modelFiles: modelFiles,
          stateFiles: [(RunCheckpoint.trainerStateFile, Array(state.text.utf8))]))
      log?.finish()
      job.note("the trained model is in \(configuration.outputDir)")
    }
  }
}

/// Why a run ended before its last step.
package struct TrainingStopped: RaisedOnEveryRank, CustomStringConvertible {
  package var description: String
}
