import Collectives
import DataParallel
import Decoder
import Foundation
import JSON
import Kernels
import Packing
import Preferences
import Tensors
package import Tokenization

/// `orpo-dist plan`: what a run on many ranks will take, from the model's shape and a short measurement of this machine.
/// Runs without MPI.
package enum PlanRun {
  package struct Settings: Sendable {
    package var ranks: Int
    package var hosts: Int
    /// Gbit/s of a host's network.
    package var bandwidth: Double
    /// Of a rank; nil divides this machine's cores by the ranks of a host.
    package var threads: Int?
    package var jsonFile: String?

    package init(ranks: Int, hosts: Int, bandwidth: Double, threads: Int?, jsonFile: String?) {
      self.ranks = ranks
      self.hosts = hosts
      self.bandwidth = bandwidth
      self.threads = threads
      self.jsonFile = jsonFile
    }
  }

  /// - Parameters:
  ///   - note: a line about what is under way.
  ///   - print: the report.
  /// - Throws: `PlanError` and what reading the model throws. Data that cannot be read are assumed.
  package static func run(
    _ configuration: TrainingConfiguration, _ settings: Settings, chat: ChatRenderer?, note: (String) -> Void,
    print: (String) -> Void
  ) throws {
    let model = try PlannedModel(path: configuration.modelNameOrPath)
    let cores = HostReport.physical(HostReport.boundCores()).count
    let local = (settings.ranks + settings.hosts - 1) / settings.hosts
    let threads = settings.threads ?? configuration.threadsPerRank ?? max(1, cores / local)
    let layout = RunPlan.Layout(
      ranks: settings.ranks, hosts: settings.hosts, threads: threads, network: settings.bandwidth * 1e9 / 8)
    let data = PlanData(
      configuration, vocabulary: model.configuration.vocabSize, tokenizer: model.tokenizer, chat: chat, threads: cores)
    chat?.stop()

    let cost = model.configuration.pairCost(parameters: model.configuration.parameterCount)
    func steps(_ ranks: Int) -> PlannedSteps {
      PlannedSteps(
        data.pairs,
        shape: BatchShape(
          perDevice: configuration.perDeviceTrainBatchSize, accumulation: configuration.gradientAccumulationSteps,
          worldSize: ranks), rowsPerMicroBatch: configuration.rowsPerMicroBatch, cost: cost,
        seed: UInt64(bitPattern: Int64(configuration.seed)), shuffle: configuration.shuffle,
        parts: configuration.parts)
    }
    let planned = steps(settings.ranks)
    let precision = try self.precision(configuration.bf16, note: note)
    let limits = ORPOStep.limits(data.pairs, configuration.stepMemory, training: true)
    let probe = try measure(
      model.configuration, layout, data, planned, configuration, precision: precision, cores: cores, note: note)
    let scale = Double(threads) / Double(probe.threads)
    let plan = RunPlan(
      model: model.configuration, layout: layout, isSharded: configuration.zeroStage > 0,
      isRounded: precision == .bfloat16, wireBytes: configuration.wireDType == .bf16 ? 2 : 4,
      activations: Decoder.memoryBytes(model.configuration, limits, threads: threads, precision: precision),
      arenas: BatchDivision(worldSize: settings.ranks, parts: configuration.parts).arenas.max() ?? 1,
      steps: planned, singleSteps: steps(1), cost: probe.together.onThreads(times: scale),
      alone: probe.alone.onThreads(times: scale), memoryBandwidth: probe.copyGigabytes * 1e9,
      totalSteps: configuration.maxSteps > 0 || data.count != nil
        ? configuration.totalSteps(pairs: data.count ?? 0, worldSize: settings.ranks) : nil)
    let report = PlanReport(
      plan: plan, model: model.configuration, name: configuration.modelNameOrPath, configuration: configuration,
      data: data, probe: probe, precision: precision, bandwidth: settings.bandwidth,
      hostMemory: ProcessMemory.installedBytes)
    print(report.text)
    if let file = settings.jsonFile {
      try AppendedFile.replace(file, with: Array((report.json.serialized(indent: 2) + "\n").utf8))
    }
  }

  /// What products of the run will be in: what this machine can do.
  private static func precision(
    _ choice: TrainingConfiguration.BFloat16Products, note: (String) -> Void
  ) throws -> ProductPrecision {
    if choice == .off { return .float32 }
    if ProductPrecision.hasBFloat16 { return .bfloat16 }
    if choice == .on { throw PlanError("bf16: this machine does not multiply bf16 by itself and cannot measure it") }
    note("note: this machine does not multiply bf16 by itself: planned in fp32")
    return .float32
  }

  /// Passes of the sizes the run will have, with as many ranks at once as a host will have and this machine can take.
  private static func measure(
    _ model: DecoderConfiguration, _ layout: RunPlan.Layout, _ data: PlanData, _ steps: PlannedSteps,
    _ configuration: TrainingConfiguration, precision: ProductPrecision, cores: Int, note: (String) -> Void
  ) throws -> MachineProbe {
    let shape = PassProbe.shape(of: model)
    let threads = min(layout.threads, cores)
    // A pass takes at most some seconds.
    let operations = 6 * Double(shape.parameterCount)
    let most = max(Int(1.5e12 * Double(threads) / operations), 32)
    let sizes = steps.typicalRows(kept: configuration.rowsPerMicroBatch).map { min($0, most) }
    let batches = data.batches(rows: Array(Set(sizes)).sorted())
    let rows = batches.map(\.rowCount)
    let limits = Decoder.MemoryLimits(
      rows: rows.max() ?? 0, sequence: batches.map(\.longestSequence).max() ?? 0, training: true,
      keptRows: configuration.rowsPerMicroBatch, checkpointing: configuration.gradientCheckpointing)
    let bytes = PassProbe.bytes(of: shape, limits, precision: precision, threads: threads)
    let available = ProcessMemory.availableBytes
    guard bytes <= available else {
      throw PlanError(
        "measuring one layer of this model takes \(gigabytes(bytes)) GB, this machine has \(gigabytes(available)) GB free: plan on a larger one"
      )
    }
    let copies = max(1, min(layout.ranksPerHost, cores / threads, available / bytes))
    note(
      "measuring \(SelfCheck.counted(copies, "rank")) x \(SelfCheck.counted(threads, "thread")) on "
        + "\(SelfCheck.counted(shape.numHiddenLayers, "layer")) of the model and its head, passes of \(PlanReport.list(rows)) rows"
    )
    return try MachineProbe(
      model, batches: batches, limits: limits, precision: precision, copies: copies, threads: threads)
  }

  static func gigabytes(_ bytes: Int) -> String { String(format: "%.2f", Double(bytes) / 1e9) }
}
