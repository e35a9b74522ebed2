import Collectives
import Decoder
import Foundation
import JSON
import Kernels
import ORPO
import Packing
import Preferences
import Tensors
import Timeline

/// Some real training steps of a model, measured: where their time went, and how near it is to the ceilings.
struct StepMeasurement {
  let breakdown: StepBreakdown
  /// Of one step, mean, on all ranks.
  let operations: Double
  let work: StepWork
  let pairsPerStep: Double
  let ranks: Int
  let origin: String
  let ceilings: Ceilings
  let precision: ProductPrecision
  private let layers: Int

  /// A collective call: loads the model, warms up with one step, measures the next. The figures are rank 0's alone.
  init(
    _ configuration: TrainingConfiguration, _ model: (source: ModelSource?, configuration: DecoderConfiguration),
    pairs: [TokenizedPair], origin: String, steps: Int, ceilings: Ceilings, _ job: Job
  ) throws {
    precision = try job.precision(configuration.bf16)
    let decoder = try job.makeDecoder(model.configuration, from: model.source, precision: precision)
    let cost = model.configuration.pairCost(parameters: decoder.layout.count)
    ranks = job.communicator.worldSize
    let sampler = GlobalBatchSampler(
      measures: pairs.map { PairMeasure($0, cost: cost) },
      shape: BatchShape(
        perDevice: configuration.perDeviceTrainBatchSize, accumulation: configuration.gradientAccumulationSteps,
        worldSize: ranks),
      seed: UInt64(bitPattern: Int64(configuration.seed)), shuffle: configuration.shuffle,
      normalization: configuration.lossNormalization, nllTokens: configuration.nllTokens, parts: configuration.parts)
    let step = try ORPOStep(
      decoder: decoder, pairs: pairs, sampler: sampler, objective: configuration.objective,
      hyperparameters: configuration.hyperparameters, maxGradNorm: configuration.maxGradNorm,
      memory: configuration.stepMemory, communicator: job.communicator, pool: job.pool,
      zeroStage: configuration.zeroStage, wireDType: configuration.wireDType)
    job.note("one step to warm up, \(steps) to measure, \(sampler.shape.globalBatch) pairs each, from \(origin)")
    let measured = 1..<(1 + steps)
    let recorder = try StepRecorder(job, step: step, steps: measured)
    _ = try step.run(0, learningRate: configuration.learningRate)
    for index in measured {
      try job.communicator.barrier()
      _ = try recorder.record { try step.run(index, learningRate: configuration.learningRate) }
    }
    breakdown = StepBreakdown(ranks: try recorder.gather() ?? [])
    let used = measured.flatMap { sampler.plan(step: $0).pairs }
    work = StepWork(used.lazy.map { pairs[$0] }, model: model.configuration)
    operations = used.reduce(0) { $0 + cost(pairs[$1]) } / Double(steps)
    pairsPerStep = Double(used.count) / Double(steps)
    layers = model.configuration.numHiddenLayers
    self.origin = origin
    self.ceilings = ceilings
  }

  private var peak: Double { ceilings.modelGigaflops(layers: layers, precision) }
  /// Useful operations by what the measured product speed could have done in the time.
  var mfu: Double { operations / breakdown.stepSeconds / (peak * 1e9) }
  var pairsPerSecond: Double { pairsPerStep / breakdown.stepSeconds }
  private var steps: Double { Double(max(breakdown.steps, 1)) }
  var tokensPerSecond: Double { Double(work.tokens) / steps / breakdown.stepSeconds }
  var rowsPerSecond: Double { Double(work.rows) / steps / breakdown.stepSeconds }

  /// GFLOP/s of a part on one rank, mean; nil for parts that are not matrix products.
  func gigaflops(_ part: StepPart) -> Double? {
    let operations = work.operations(part)
    guard operations > 0, breakdown[part].seconds > 0 else { return nil }
    return operations / steps / Double(ranks) / breakdown[part].seconds / 1e9
  }

  /// Share of what the same products reach by themselves; nil where that was not measured.
  func shareOfCeiling(_ part: StepPart) -> Double? {
    let places: [StepPart: Int] = [.qkv: 0, .attentionOut: 1, .gateUp: 2, .down: 3, .head: 4]
    guard let place = places[part], let speed = gigaflops(part) else { return nil }
    return speed / (ceilings.products(precision)[place].together / Double(ranks))
  }
}

// MARK: - Report

extension StepMeasurement {
  var text: String {
    let header = ["step", "forward s", "backward s", "share", "GFLOP/s a rank", "of ceiling"]
    var rows = [header]
    for line in breakdown.lines where line.seconds > 0 {
      rows.append([
        line.part.rawValue, Self.seconds(line.forward), line.backward > 0 ? Self.seconds(line.backward) : "",
        Self.percent(line.seconds / breakdown.stepSeconds),
        gigaflops(line.part).map { String(format: "%.0f", $0) } ?? "",
        shareOfCeiling(line.part).map(Self.percent) ?? "",
      ])
    }
    rows.append(["all", Self.seconds(breakdown.stepSeconds), "", "100.0 %"])
    let summary = [
      "mean of \(SelfCheck.counted(breakdown.steps, "step")) and \(SelfCheck.counted(ranks, "rank")); "
        + "\(String(format: "%.0f", Double(work.rows) / steps)) rows for \(String(format: "%.0f", pairsPerStep)) pairs a step, from \(origin)",
      "\(SelfCheck.number(pairsPerSecond)) pairs/s, \(SelfCheck.number(tokensPerSecond)) tokens/s, "
        + "\(SelfCheck.number(rowsPerSecond)) rows/s; MFU \(Self.percent(mfu)) of \(String(format: "%.0f", peak)) GFLOP/s, "
        + "the measured speed of this model's products in \(precision.shortName) on all ranks",
    ]
    return TextTable(rows: rows, rightFrom: 1).text + "\n" + summary.joined(separator: "\n")
  }

  private static func seconds(_ value: Double) -> String { String(format: "%.3f", value) }
  private static func percent(_ share: Double) -> String { String(format: "%.1f %%", 100 * share) }

  var json: JSONValue {
    let parts = breakdown.lines.map { line -> JSONValue in
      [
        "part": .string(line.part.rawValue), "forward_seconds": .double(line.forward),
        "backward_seconds": .double(line.backward), "share": .double(line.seconds / breakdown.stepSeconds),
        "gflops_per_rank": gigaflops(line.part).map { .double($0) } ?? .null,
        "share_of_ceiling": shareOfCeiling(line.part).map { .double($0) } ?? .null,
      ]
    }
    return [
      "data": .string(origin), "precision": .string(precision.shortName), "steps": .integer(breakdown.steps),
      "step_seconds": .double(breakdown.stepSeconds),
      "pairs_per_step": .double(pairsPerStep), "rows_per_step": .double(Double(work.rows) / steps),
      "pairs_per_second": .double(pairsPerSecond), "tokens_per_second": .double(tokensPerSecond),
      "operations_per_step": .double(operations), "peak_gflops": .double(peak), "mfu": .double(mfu),
      "parts": .array(parts),
    ]
  }
}
