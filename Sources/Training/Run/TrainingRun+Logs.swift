import Collectives
import DataParallel
import Decoder
import Foundation
import Kernels
import ORPO
import Packing
import Preferences
import Tensors

/// What a run says: its plan before the first step, then metrics and evaluations.
extension TrainingRun {
  func reportStart() throws {
    let hosts = try communicator.allGather(communicator.nodeLeader)
    try job.warnAboutThreads()
    let report = StartReport(
      configuration: configuration, decoder: step.decoder.configuration, parameters: step.decoder.layout.count,
      training: step.pairs, evaluationPairs: evaluationPairs.count, worldSize: communicator.worldSize,
      hosts: Set(hosts).count, threads: try communicator.allGather(job.pool.threadCount),
      stepsPerEpoch: step.sampler.stepsPerEpoch,
      totalSteps: totalSteps, optimizerBytes: optimizerBytes, partialSumBytes: step.reducer.partialSumBytes,
      copyBytes: try copyBytes(), communication: communicationText,
      reservedBytes: step.decoder.reservedBytes, instructionSet: Matmul.instructionSet, gigaflops: gigaflops,
      precision: step.decoder.precision
    )
    job.note(report.text)
    if let warning = step.reducer.mesh.warning { job.note("warning: \(warning)") }
    if configuration.wireDType != .fp32, step.reducer.mesh.grid.nodeCount == 1 {
      job.note("note: wire_dtype has no effect: all ranks are on one node, and nothing travels between nodes")
    }
  }

  /// Copies from which checkpoints are written while training goes on, of the rank that holds most.
  func copyBytes() throws -> Int {
    // A run that saves at its last step alone waits for that, without a copy.
    guard let interval = configuration.saveInterval(total: totalSteps), interval < totalSteps else { return 0 }
    return try communicator.allGather(writer.bytes).max() ?? 0
  }

  /// Of the rank that holds most.
  var optimizerBytes: Int {
    let plan = step.reducer.plan
    let shares = (0..<communicator.worldSize).map { plan.slices(of: $0).reduce(0) { $0 + $1.count } }
    return 8 * (configuration.zeroStage == 0 ? plan.valueCount : shares.max() ?? 0)
  }

  var communicationText: String? {
    let reducer = step.reducer
    let parts = configuration.parts.map { "; in up to \($0) parts, with the same bits on any number of ranks" } ?? ""
    guard communicator.worldSize > 1 else { return parts.isEmpty ? nil : "one rank\(parts)" }
    let buckets = reducer.plan.bucketCount
    return "\(buckets) bucket\(buckets == 1 ? "" : "s") through \(reducer.mesh.description)"
      + (configuration.wireDType == .fp32 ? "" : " as \(configuration.wireDType.rawValue)")
      + (reducer.overlaps ? ", while backward goes on" : ", after each other: MPI gives no thread of its own")
      + "; zero_stage \(configuration.zeroStage)"
      + (configuration.zeroStage == 0 ? "" : ": each rank keeps AdamW's moments of its share")
      + parts
  }

  func logWindow() throws {
    guard !window.isEmpty else { return }
    let memory = try communicator.allGather(Int(ProcessMemory.peakGB * 1e9)).map { Double($0) / 1e9 }
    watch?.peakMemory(memory)
    var waits = [window.exposedCommunication, window.communicationTail]
    try communicator.agree(max: &waits)
    (window.exposedCommunication, window.communicationTail) = (waits[0], waits[1])
    let entry = window.entry(
      step: state.globalStep, epoch: state.epoch, peakGFLOPs: gigaflops * Double(communicator.worldSize),
      peakMemoryGB: memory.max() ?? 0, skippedPairs: skippedPairs, skippedSteps: progress.skippedSteps)
    write(entry)
    window = MetricWindow()
  }

  /// Breaks off, with `progress.evaluationDue` set, when a rank is asked to stop meanwhile.
  func evaluate(step done: Int) throws {
    guard let evaluationPlan else {
      progress.evaluationDue = false
      return
    }
    let began = ProcessInfo.processInfo.systemUptime
    let evaluated = try reporting(.evaluating) {
      try step.evaluation.metrics(of: evaluationPairs, plan: evaluationPlan) { StopSignals.received != nil }
    }
    progress.evaluationDue = evaluated == nil
    guard let metrics = evaluated else { return }
    let seconds = ProcessInfo.processInfo.systemUptime - began
    let values =
      metrics.named(prefix: "eval_") + [
        ("eval_runtime", seconds), ("eval_pairs_per_second", metrics.pairCount / seconds),
      ]
    write(
      LogEntry(
        step: done, epoch: step.sampler.epoch(afterSteps: done), metrics: values.map { .init($0.0, $0.1) }))
  }

  func write(_ entry: LogEntry) {
    state.logHistory.append(entry)
    log?.write(entry)
    watch?.logged(entry)
  }
}
