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
    /// From the newest complete checkpoint in `output_dir` where that is of this very run, else from the beginning.
    case automatic
    /// From the newest complete checkpoint in `output_dir`, also with changed settings.
    case newestCheckpoint
    case checkpoint(String)
  }

  let configuration: TrainingConfiguration
  let job: Job
  let communicator: Communicator
  let start: Start
  /// config.json, the tokenizer's files and such, on rank 0: read once, so that a model folder that changes or goes
  /// away does no harm.
  let modelFiles: [(name: String, bytes: [UInt8])]
  let step: ORPOStep
  let evaluationPairs: [TokenizedPair]
  let evaluationPlan: StepPlan?
  let locations: [RowLocation]
  let skippedPairs: Int
  let totalSteps: Int
  let schedule: LearningRateSchedule
  let identity: RunCheckpoint.Identity
  let store: CheckpointStore
  /// With `save_sharded`: who writes where.
  let disks: OutputDisks?
  let writer: CheckpointWriter
  let gigaflops: Double
  let operationsPerPair: [Double]
  var console: Console?
  var log: MetricLog?
  /// On rank 0.
  var claim: OutputClaim?
  /// On rank 0; nil elsewhere and where it could not be opened.
  var journal: RunJournal?
  /// On rank 0.
  var watch: StatusWriter?
  let dataReport: JSONValue
  /// On rank 0: the checkpoint that the run was told to begin with, or that it continues a run that was.
  var origin: String?
  var state = TrainerState()
  var window = MetricWindow()
  var progress = RunCheckpoint.Progress()
  var trace: StepTrace?
  /// Steps done when this start began.
  var firstStep = 0
  /// A fault that was asked for.
  var drill: Drill?

  /// Sets everything up: model, data, memory; all ranks together.
  package init(_ configuration: TrainingConfiguration, from start: Start, job: Job, chat: ChatRenderer?) throws {
    // First of all: reading a large model takes a while, and whoever asks to stop meanwhile is heard before the first step.
    StopSignals.listen(besides: job.pool)
    self.configuration = configuration
    self.start = start
    self.job = job
    communicator = job.communicator
    store = CheckpointStore(outputDirectory: configuration.outputDir)
    drill = try communicator.together { try Drill.fromEnvironment() }
    try OutputFolder.check(configuration, start, job)
    disks = configuration.saveSharded ? try OutputDisks(store, communicator) : nil
    try OutputFolder.clear(store, disks, job)
    if configuration.reproducible {
      try communicator.requireSame("instruction set of products (reproducible: true needs one)", Matmul.instructionSet)
    }
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
      normalization: configuration.lossNormalization, nllTokens: configuration.nllTokens, parts: configuration.parts)
    operationsPerPair = data.training.map { cost($0) }
    evaluationPairs = data.evaluation
    evaluationPlan =
      data.evaluation.isEmpty
      ? nil
      : GlobalBatchSampler.evaluationPlan(
        measures: data.evaluation.map { PairMeasure($0, cost: cost) }, division: sampler.division,
        deviceBatch: configuration.perDeviceEvalBatchSize, normalization: configuration.lossNormalization,
        nllTokens: configuration.nllTokens)
    step = try ORPOStep(
      decoder: decoder, pairs: data.training, sampler: sampler, objective: configuration.objective,
      hyperparameters: configuration.hyperparameters, maxGradNorm: configuration.maxGradNorm,
      memory: configuration.stepMemory, communicator: communicator, pool: job.pool, zeroStage: configuration.zeroStage,
      wireDType: configuration.wireDType, evaluationPairs: data.evaluation)
    step.progress = job.progress
    writer = try CheckpointWriter(
      step, communicator, job.pool, takesMoments: configuration.zeroStage > 0 || disks != nil || communicator.isRoot)
    locations = data.locations
    skippedPairs = data.trainingReport?.rowsLeftOut ?? 0
    dataReport = data.reportJSON
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
    do {
      let first = try begin()
      if first == totalSteps, !progress.evaluationDue, try hasFinalModel() {
        recordEnd()
        return job.note("all \(totalSteps) steps were done before: the trained model is in \(configuration.outputDir)")
      }
      try reportStart()
      try beginTrace(first: first)
      let isEvaluationDue = progress.evaluationDue
      if isEvaluationDue || first == 0 && configuration.evalOnStart { try evaluate(step: first) }
      try stopBeforeTraining()
      // The checkpoint of the last step says no more that its evaluation is due.
      if first == totalSteps, isEvaluationDue { _ = try saveNow(step: first) }
      for index in first..<max(totalSteps, first) { try train(index) }
      try finish()
    } catch {
      // Where all ranks are here, what is being written comes to its end before MPI does.
      if error is any RaisedOnEveryRank { for outcome in try writer.finish() { note(outcome) } }
      recordEnd(error)
      throw error
    }
  }

  // MARK: - One step

  func train(_ index: Int) throws {
    for outcome in try writer.poll() { note(outcome) }
    let learningRate = schedule[index]
    let began = ProcessInfo.processInfo.systemUptime
    let outcome = try trace.recording(index) { try soundStep(index, learningRate: learningRate) }
    let seconds = ProcessInfo.processInfo.systemUptime - began
    if let trace, trace.isLast(index) { try finishTrace(trace) }
    let plan = step.sampler.plan(step: index)
    let operations = plan.pairs.reduce(0) { $0 + operationsPerPair[$1] }
    window.add(outcome, learningRate: learningRate, seconds: seconds, operations: operations)

    job.progress.enter(.logs)
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
    watch?.stepped(figures(outcome, seconds: seconds))
    // The scripts that start a run again look for this line: from here on, a failure is worth another start.
    if index == firstStep {
      console?.note("first step of this start done: step \(done), \(ProgressLine.number(seconds)) s")
    }
    try noteSkip(outcome, plan)
    if done % configuration.loggingInterval(total: totalSteps) == 0 || done == totalSteps { try logWindow() }
    let stops = !outcome.ranksAskingToStop.isEmpty
    if done == totalSteps || configuration.evalInterval(total: totalSteps).map({ done % $0 == 0 }) ?? false {
      if stops { progress.evaluationDue = evaluationPlan != nil } else { try evaluate(step: done) }
    }
    if configuration.checkRanksSteps > 0, done % configuration.checkRanksSteps == 0 {
      try requireSameParameters(at: done)
    }
    if stops || progress.evaluationDue { try stop(step: done) }
    guard let interval = configuration.saveInterval(total: totalSteps) else { return }
    if done == totalSteps {
      try reporting(.saving) { _ = try saveNow(step: done) }
    } else if done % interval == 0 {
      try save(step: done)
    }
  }

  // MARK: - Trace

  func beginTrace(first: Int) throws {
    guard configuration.trace else { return }
    trace = try StepTrace(job, step: step, after: first, steps: configuration.traceSteps, totalSteps: totalSteps)
    if trace == nil { job.note("note: no trace is written: the run has no second step to record") }
  }

  /// Rank 0 writes the file; a failure is a warning.
  func finishTrace(_ trace: StepTrace) throws {
    self.trace = nil
    let path = configuration.outputDir + "/trace.json"
    do {
      try trace.write(to: path)
      job.note("the timeline of steps \(trace.steps.lowerBound + 1) to \(trace.steps.upperBound) is in \(path)")
    } catch let error as FileError {
      console?.note("warning: \(error); training goes on without the timeline")
    }
  }

  // MARK: - Begin and end

  /// Loads the checkpoint to start from, opens the logs, and returns the first step to run.
  func begin() throws -> Int {
    try openJournal()
    try announceDrill()
    let resumed = try restore()
    let first = progress.step
    firstStep = first
    try communicator.together {
      if job.isRoot { claim = try OutputClaim(outputDirectory: configuration.outputDir, host: communicator.hostName) }
    }
    try recordStart(resumed: resumed)
    state.maxSteps = totalSteps
    state.loggingSteps = configuration.loggingInterval(total: totalSteps)
    state.evalSteps = configuration.evalInterval(total: totalSteps)
    state.saveSteps = configuration.saveInterval(total: totalSteps)
    state.trainBatchSize = configuration.perDeviceTrainBatchSize
    state.numTrainEpochs = (totalSteps + step.sampler.stepsPerEpoch - 1) / step.sampler.stepsPerEpoch
    try communicator.together {
      guard job.isRoot else { return }
      try AppendedFile.replace(
        configuration.outputDir + "/orpo_config.yaml", with: Array(configuration.resolvedYAML.utf8))
      let console = Console(totalSteps: totalSteps, firstStep: first)
      let log = MetricLog([console]) { console.note("warning: \($0)") }
      log.addFiles(of: configuration, resumingAt: resumed ? first : nil, history: state.logHistory)
      self.console = console
      self.log = log
    }
    return first
  }

  func finish() throws {
    watch?.enter(.saving)
    job.progress.enter(.checkpoint)
    for outcome in try writer.finish() { note(outcome) }
    try requireClaim(at: totalSteps)
    try requireSameParameters(at: totalSteps)
    try communicator.together {
      guard job.isRoot else { return }
      try store.saveModel(
        RunCheckpoint.contents(
          step.decoder.layout, UnsafeBufferPointer(step.decoder.parameters), moments: nil, modelFiles: modelFiles,
          stateFiles: [(RunCheckpoint.trainerStateFile, Array(state.text.utf8))]),
        last: RunCheckpoint.trainerStateFile)
      log?.finish()
      recordEnd()
      job.note("the trained model is in \(configuration.outputDir)")
    }
  }
}
