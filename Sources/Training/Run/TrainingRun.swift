package import Checkpoints
package import Collectives
import DataParallel
package import Decoder
import Foundation
import JSON
import Kernels
package import ORPO
package import Packing
package import Preferences
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
  private let source: ModelSource?
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
  private var skippedSteps = 0
  private var skippedInARow = 0

  /// A run whose steps are skipped this often in a row will not recover by itself.
  private static let skipLimit = 10

  /// Sets everything up: model, data, memory; all ranks together.
  package init(_ configuration: TrainingConfiguration, job: Job, chat: ChatRenderer?) throws {
    self.configuration = configuration
    self.job = job
    communicator = job.communicator
    let (source, decoderConfiguration) = try job.openModel(configuration.modelNameOrPath)
    self.source = source
    let data = try job.loadData(configuration, source: source, chat: chat)
    chat?.stop()
    if let report = data.trainingReport { job.note(report.text()) }
    let decoder = try job.makeDecoder(decoderConfiguration, from: source)
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
    step = ORPOStep(
      decoder: decoder, pairs: data.training, sampler: sampler, objective: configuration.objective,
      hyperparameters: configuration.hyperparameters, maxGradNorm: configuration.maxGradNorm,
      rowsPerMicroBatch: configuration.rowsPerMicroBatch, communicator: communicator, pool: job.pool,
      evaluationPairs: data.evaluation)
    locations = data.locations
    skippedPairs = data.trainingReport?.rowsLeftOut ?? 0
    totalSteps = configuration.totalSteps(pairs: data.training.count, worldSize: communicator.worldSize)
    schedule = configuration.learningRateSchedule(totalSteps: totalSteps)
    identity = RunCheckpoint.Identity(
      globalBatch: configuration.globalBatch(worldSize: communicator.worldSize), pairs: data.training.count,
      totalSteps: totalSteps, dataDigest: PairTransport.digest(data.training), seed: configuration.seed,
      shuffle: configuration.shuffle)
    store = CheckpointStore(outputDirectory: configuration.outputDir)
    gigaflops = MachineSpeed.matmulGFLOPs(job.pool)
  }

  /// Trains to the end and writes the model.
  package func run(from start: Start) throws {
    let first = try begin(start)
    try reportStart()
    if first == 0, configuration.evalOnStart { try evaluate(step: 0) }
    for index in first..<max(totalSteps, first) { try train(index) }
    try finish()
  }

  // MARK: - One step

  private func train(_ index: Int) throws {
    let learningRate = schedule[index]
    let began = ProcessInfo.processInfo.systemUptime
    let outcome = try step.run(index, learningRate: learningRate)
    let seconds = ProcessInfo.processInfo.systemUptime - began
    let plan = step.sampler.plan(step: index)
    window.add(
      outcome, learningRate: learningRate, seconds: seconds,
      operations: plan.pairs.reduce(0) { $0 + operationsPerPair[$1] })
    try noteSkip(outcome, index: index)

    let done = index + 1
    state.globalStep = done
    state.epoch = step.sampler.epoch(afterSteps: done)
    state.numInputTokensSeen += outcome.tokens
    console?.progress(
      step: done, loss: outcome.metrics.loss, margin: outcome.metrics.margins / max(outcome.metrics.pairCount, 1),
      tokensPerSecond: Double(outcome.tokens) / seconds)
    if done % configuration.loggingInterval(total: totalSteps) == 0 || done == totalSteps { try logWindow() }
    if let interval = configuration.evalInterval(total: totalSteps), done % interval == 0, done < totalSteps {
      try evaluate(step: done)
    }
    if let interval = configuration.saveInterval(total: totalSteps), done % interval == 0 { try save(step: done) }
  }

  private func noteSkip(_ outcome: ORPOStep.Outcome, index: Int) throws {
    guard outcome.isSkipped else {
      skippedInARow = 0
      return
    }
    skippedSteps += 1
    skippedInARow += 1
    let names = step.sampler.plan(step: index).pairs.prefix(4).compactMap { locations.indices.contains($0) ? "\(locations[$0])" : nil }
    console?.note(
      "warning: step \(index + 1) skipped: loss \(outcome.metrics.loss), grad_norm \(outcome.gradientNorm); its pairs begin with \(names.joined(separator: ", "))"
    )
    if skippedInARow >= Self.skipLimit {
      throw TrainingStopped(
        description:
          "\(skippedInARow) steps in a row had a loss or gradient that is not finite; the parameters are those before them. A lower learning_rate or the last checkpoint may help"
      )
    }
  }

  // MARK: - Logs and evaluation

  private func logWindow() throws {
    guard !window.isEmpty else { return }
    var peaks = [ProcessMemory.peakGB]
    try communicator.agree(max: &peaks)
    let entry = window.entry(
      step: state.globalStep, epoch: state.epoch, peakGFLOPs: gigaflops * Double(communicator.worldSize),
      peakMemoryGB: peaks[0], skippedPairs: skippedPairs, skippedSteps: skippedSteps)
    write(entry)
    window = MetricWindow()
  }

  private func evaluate(step done: Int) throws {
    guard let evaluationPlan else { return }
    let began = ProcessInfo.processInfo.systemUptime
    let metrics = try step.evaluate(evaluationPairs, plan: evaluationPlan)
    let seconds = ProcessInfo.processInfo.systemUptime - began
    let values =
      metrics.named(prefix: "eval_") + [("eval_runtime", seconds), ("eval_pairs_per_second", metrics.pairCount / seconds)]
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
  private func begin(_ start: Start) throws -> Int {
    let resumed = try restore(start)
    let first = resumed ? state.globalStep : 0
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
    try FileManager.default.createDirectory(atPath: configuration.outputDir, withIntermediateDirectories: true)
    try Data(configuration.resolvedYAML.utf8).write(
      to: URL(fileURLWithPath: configuration.outputDir + "/orpo_config.yaml"), options: .atomic)
  }

  /// Rank 0 reads the checkpoint, all ranks get parameters, moments and state. False when there is nothing to resume.
  private func restore(_ start: Start) throws -> Bool {
    if start == .new {
      try communicator.together { if job.isRoot { try refuseOldCheckpoints() } }
      return false
    }
    let bytes = try communicator.fromRoot {
      guard let checkpoint = try find(start) else { return [] }
      let stored = try JSONValue(parsing: checkpoint.bytes(of: RunCheckpoint.stateFile))
      try identity.check(stored, checkpoint: checkpoint.directory) { wanted in
        let perStep = configuration.perDeviceTrainBatchSize * communicator.worldSize
        return wanted % perStep == 0 ? wanted / perStep : nil
      }
      let text = try checkpoint.bytes(of: RunCheckpoint.trainerStateFile)
      let state = try TrainerState(parsing: text, file: checkpoint.directory + "/" + RunCheckpoint.trainerStateFile)
      try RunCheckpoint.load(checkpoint, decoder: step.decoder, optimizer: step.optimizer)
      job.note("continuing from \(checkpoint.directory)")
      self.state = state
      let counts = [state.globalStep, stored["optimizer_steps"]?.integer ?? state.globalStep, stored["skipped_steps"]?.integer ?? 0]
      return counts.withUnsafeBytes { Array($0) }
    }
    guard !bytes.isEmpty else {
      job.note("no checkpoint in \(configuration.outputDir): starting from the beginning")
      return false
    }
    let counts = bytes.withUnsafeBytes { bytes in
      (0..<3).map { bytes.loadUnaligned(fromByteOffset: 8 * $0, as: Int.self) }
    }
    state.globalStep = counts[0]
    step.optimizer.stepCount = counts[1]
    skippedSteps = counts[2]
    for arena in [step.decoder.parameters, step.optimizer.firstMoments, step.optimizer.secondMoments] {
      try communicator.broadcast(UnsafeMutableRawBufferPointer(arena))
    }
    return true
  }

  private func find(_ start: Start) throws -> Checkpoint? {
    if case .checkpoint(let directory) = start {
      let checkpoint = try Checkpoint(directory: directory)
      try checkpoint.verify()
      return checkpoint
    }
    let search = try store.newest()
    for damaged in search.damaged { job.note("warning: \(damaged.name) cannot be used: \(damaged.reason)") }
    return search.checkpoint
  }

  /// A new run must not write among the checkpoints of another.
  private func refuseOldCheckpoints() throws {
    if let old = try store.newest(verifyingContents: false).checkpoint {
      throw ResumeError(
        "\(old.directory) is there already: continue that run with --resume, or choose another output_dir")
    }
  }

  private func reportStart() throws {
    let hosts = try communicator.allGather(communicator.nodeLeader)
    try job.warnAboutThreads()
    let report = StartReport(
      configuration: configuration, decoder: step.decoder.configuration, parameters: step.decoder.layout.count,
      training: step.pairs, evaluationPairs: evaluationPairs.count, worldSize: communicator.worldSize,
      hosts: Set(hosts).count, threads: job.pool.threadCount, stepsPerEpoch: step.sampler.stepsPerEpoch,
      totalSteps: totalSteps, reservedBytes: step.decoder.reservedBytes, coreName: Matmul.coreName, gigaflops: gigaflops)
    job.note(report.text)
  }

  /// Rank 0 writes `checkpoint-N`; a failure is a warning, and training goes on to the next save.
  private func save(step done: Int) throws {
    try communicator.barrier()
    guard job.isRoot, let source else { return }
    do {
      let files = [
        (RunCheckpoint.trainerStateFile, Array(state.text.utf8)),
        (
          RunCheckpoint.stateFile,
          identity.bytes(step: done, optimizerSteps: step.optimizer.stepCount, skippedSteps: skippedSteps)
        ), ("orpo_config.yaml", Array(configuration.resolvedYAML.utf8)),
      ]
      _ = try store.save(
        step: done,
        contents: RunCheckpoint.contents(
          decoder: step.decoder, optimizer: step.optimizer, modelFiles: try source.files(), stateFiles: files))
      if let limit = configuration.saveTotalLimit { _ = try store.prune(limit: limit) }
    } catch {
      console?.note("warning: checkpoint-\(done) could not be saved: \(error); training goes on, earlier checkpoints are untouched")
    }
  }

  private func finish() throws {
    try evaluate(step: totalSteps)
    try communicator.requireSameParameters(step.decoder.parameters)
    try communicator.together {
      guard job.isRoot, let source else { return }
      try store.saveModel(
        RunCheckpoint.contents(
          decoder: step.decoder, optimizer: nil, modelFiles: try source.files(),
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
