import Decoder
import Foundation
import JSON
import Kernels
import Packing

/// A plan in words and as JSON.
struct PlanReport {
  var plan: RunPlan
  var model: DecoderConfiguration
  var name: String
  var configuration: TrainingConfiguration
  var data: PlanData
  var probe: MachineProbe
  var precision: ProductPrecision
  /// Gbit/s.
  var bandwidth: Double
  /// Memory of this machine, in bytes.
  var hostMemory: Int

  private var layout: RunPlan.Layout { plan.layout }

  var text: String {
    ([heading, modelLine, dataLine, measuredLine, ""] + memoryLines + [""] + stepLines + [""] + runLines + [""])
      .joined(separator: "\n")
  }

  // MARK: - What is planned, and from what

  private var heading: String {
    "orpo-dist \(Version.text): plan for \(SelfCheck.counted(layout.ranks, "rank")) on "
      + "\(SelfCheck.counted(layout.hosts, "host")), \(SelfCheck.counted(layout.threads, "thread")) each"
      + (layout.hosts > 1 ? ", \(SelfCheck.number(bandwidth)) Gbit/s between hosts" : "") + "\n"
  }

  private var modelLine: String {
    let count = Double(model.parameterCount)
    let size = count < 1e9 ? String(format: "%.1f M", count / 1e6) : String(format: "%.2f G", count / 1e9)
    return
      "model      \(name): \(model.family.rawValue), \(size) parameters, \(model.numHiddenLayers) layers, vocabulary \(model.vocabSize)"
  }

  private var dataLine: String {
    let rows = plan.steps.rowsPerStep / plan.steps.pairsPerStep
    let tokens = plan.steps.tokensPerStep / plan.steps.pairsPerStep
    let lengths = String(format: "%.0f rows for %.0f tokens a pair", rows, tokens)
    guard let assumption = data.assumption else {
      return "data       \(data.pairs.count) training pairs, \(lengths), prefixes shared"
    }
    return
      "data       ASSUMED, \(assumption): sequences of max_length / 2 = \(configuration.maxLength / 2) tokens in the mean, a quarter of it shared; \(lengths)"
  }

  private var measuredLine: String {
    let vocabulary = PassProbe.shape(of: model).vocabSize
    let head = vocabulary < model.vocabSize ? "the head with \(vocabulary) of its tokens" : "the head"
    var line =
      "measured   here, \(SelfCheck.counted(probe.copies, "rank")) x \(SelfCheck.counted(probe.threads, "thread")) at once: "
      + "\(SelfCheck.counted(probe.layers, "layer")) and \(head), passes of \(Self.list(probe.rows)) rows, products in \(precision.shortName)"
    if layout.threads > probe.threads {
      line +=
        "\n           a rank of \(layout.threads) threads is taken to be \(SelfCheck.number(Double(layout.threads) / Double(probe.threads))) times as fast as these \(probe.threads)"
    }
    if layout.ranksPerHost > probe.copies {
      line +=
        "\n           the \(layout.ranksPerHost) ranks of a host are taken not to slow each other down more than these \(probe.copies)"
    }
    return line
  }

  /// `3`, `3 and 4`, `3, 4 and 5`.
  static func list(_ numbers: [Int]) -> String {
    let texts = numbers.map(String.init)
    guard let last = texts.last, texts.count > 1 else { return texts.first ?? "no" }
    return texts.dropLast().joined(separator: ", ") + " and " + last
  }

  // MARK: - Memory

  private var memoryLines: [String] {
    let m = plan.memory
    let gb = PlanRun.gigabytes
    let line =
      "memory     a rank: \(gb(m.parameters)) parameters + \(gb(m.gradients)) gradients + \(gb(m.optimizer)) optimizer + "
      + (m.roundedParameters > 0 ? "\(gb(m.roundedParameters)) parameters in bf16 + " : "")
      + "\(gb(m.activations)) activations and logits = \(gb(m.total)) GB; a host: \(gb(m.total * layout.ranksPerHost)) GB"
    guard m.total * layout.ranksPerHost > hostMemory else { return [line] }
    return [
      line,
      "           DOES NOT FIT a host like this one: it has \(gb(hostMemory)) GB, \(gb(hostMemory / layout.ranksPerHost)) GB for each of \(SelfCheck.counted(layout.ranksPerHost, "rank"))",
    ]
  }

  // MARK: - Time

  private var stepLines: [String] {
    let c = plan.communication
    func row(_ name: String, _ seconds: Double, _ remark: String = "") -> [String] {
      [name, String(format: "%.3f", seconds), String(format: "%.1f %%", 100 * seconds / plan.stepSeconds), remark]
    }
    let passes = String(format: "%.1f", plan.steps.passesPerRank)
    var rows = [
      ["step", "s", "share", ""],
      row(
        "passes", plan.compute.mean,
        "\(String(format: "%.0f", plan.steps.pairsPerStep)) pairs; a rank does \(passes) passes of \(String(format: "%.0f", plan.steps.meanRowsPerPass)) rows"
      ),
      row(
        "waiting", plan.compute.busiest - plan.compute.mean,
        "the busiest rank has \(String(format: "%.1f %%", 100 * (plan.imbalance - 1))) more than the mean"),
      row("optimizer", plan.optimizerSeconds),
    ]
    if layout.ranks > 1 {
      let hidden = c.networkReduce + c.networkGather + c.inNode - c.exposed
      rows.append(
        row(
          "communication", c.exposed,
          layout.hosts > 1
            ? "network \(String(format: "%.3f", c.networkReduce + c.networkGather)) s for \(PlanRun.gigabytes(Int(c.networkBytes))) GB out of each host, \(String(format: "%.3f", hidden)) s of it beside backward; inside a host \(String(format: "%.3f", c.inNode)) s"
            : "inside the host"))
    }
    rows.append(["all", String(format: "%.3f", plan.stepSeconds), "100.0 %"])
    var table = TextTable(rows: rows.map { Array($0.prefix(3)) }, rightFrom: 1).text.split(separator: "\n").map(
      String.init)
    for (index, row) in rows.enumerated() where row.count > 3 && !row[3].isEmpty { table[index] += "   " + row[3] }
    return table
  }

  private var runLines: [String] {
    var lines = [
      "speed      \(SelfCheck.number(plan.pairsPerSecond)) pairs/s, \(SelfCheck.number(plan.tokensPerSecond)) tokens/s; "
        + (layout.ranks > 1
          ? "\(String(format: "%.0f %%", 100 * plan.efficiency)) of \(layout.ranks) single ranks (\(SelfCheck.number(plan.singlePairsPerSecond)) pairs/s each)"
          : "one rank")
    ]
    if let seconds = plan.runSeconds, let steps = plan.totalSteps {
      let epochs = configuration.maxSteps > 0 ? "max_steps" : "\(SelfCheck.number(configuration.numTrainEpochs)) epochs"
      lines.append(
        "run        \(steps) steps (\(epochs)): \(Self.duration(seconds)), without evaluation and saving")
    } else {
      lines.append("run        of unknown length: it is not known how many pairs there are; max_steps sets it")
    }
    return lines
  }

  private static func duration(_ seconds: Double) -> String {
    seconds < 5400 ? "\(SelfCheck.number(seconds / 60)) minutes" : "\(SelfCheck.number(seconds / 3600)) hours"
  }
}

// MARK: - JSON

extension PlanReport {
  var json: JSONValue {
    let (m, c) = (plan.memory, plan.communication)
    return [
      "version": .string(Version.text), "model": .string(name), "parameters": .integer(model.parameterCount),
      "ranks": .integer(layout.ranks), "hosts": .integer(layout.hosts), "threads": .integer(layout.threads),
      "precision": .string(precision.shortName), "bandwidth_gbit": layout.hosts > 1 ? .double(bandwidth) : .null,
      "data_assumed_because": data.assumption.map { .string($0) } ?? .null,
      "measured": [
        "ranks": .integer(probe.copies), "threads": .integer(probe.threads), "layers": .integer(probe.layers),
        "rows": .array(probe.rows.map { .integer($0) }), "copy_gb_per_second": .double(probe.copyGigabytes),
      ],
      "memory_bytes": [
        "parameters": .integer(m.parameters), "gradients": .integer(m.gradients), "optimizer": .integer(m.optimizer),
        "rounded_parameters": .integer(m.roundedParameters), "activations": .integer(m.activations),
        "total": .integer(m.total),
        "fits_this_machine": .bool(m.total * layout.ranksPerHost <= hostMemory),
      ],
      "step_seconds": [
        "passes": .double(plan.compute.mean), "waiting": .double(plan.compute.busiest - plan.compute.mean),
        "optimizer": .double(plan.optimizerSeconds), "communication_exposed": .double(c.exposed),
        "network_reduce": .double(c.networkReduce), "network_gather": .double(c.networkGather),
        "inside_host": .double(c.inNode), "total": .double(plan.stepSeconds),
      ],
      "network_bytes_per_host": .double(c.networkBytes), "imbalance": .double(plan.imbalance),
      "pairs_per_step": .double(plan.steps.pairsPerStep), "rows_per_step": .double(plan.steps.rowsPerStep),
      "pairs_per_second": .double(plan.pairsPerSecond), "tokens_per_second": .double(plan.tokensPerSecond),
      "single_rank_pairs_per_second": .double(plan.singlePairsPerSecond), "efficiency": .double(plan.efficiency),
      "total_steps": plan.totalSteps.map { .integer($0) } ?? .null,
      "run_seconds": plan.runSeconds.map { .double($0) } ?? .null,
    ]
  }
}
