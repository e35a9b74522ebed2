import Foundation

extension RunStatus {
  /// The status in Prometheus' text format, for the textfile collector of node_exporter. Values that are not known yet
  /// are left out.
  /// - Parameter run: the name that tells this run from others on the host.
  package func prometheusText(run: String) -> String {
    var text = PrometheusText(run: run)
    text.gauge("up", "1 while the run goes on, 0 after its end.", state.isLast ? 0 : 1)
    text.head("state", "gauge", "1 for the state the run is in.")
    for known in State.allCases {
      text.sample("state", [("state", known.rawValue)], known == state ? 1 : 0)
    }
    text.gauge("last_update_timestamp_seconds", "When these figures were written.", time)
    text.gauge("step", "Optimizer steps completed.", Double(step))
    text.gauge("planned_steps", "Optimizer steps of the whole run.", Double(totalSteps))
    text.gauge("epoch", "Passes over the training pairs completed.", epoch)
    text.gauge("loss", "Loss of the last step.", loss)
    text.gauge("grad_norm", "Global gradient norm of the last step, before clipping.", gradientNorm)
    text.gauge("eval_loss", "Loss on the held-out pairs at the last evaluation.", evaluation?["eval_loss"])
    text.gauge("pairs_per_second", "Preference pairs trained on per second.", pairsPerSecond)
    text.gauge("seconds_left", "Estimated time to the last step.", secondsLeft)
    text.series(
      "step_seconds", "Seconds of computing of each rank in the last step.",
      ranks.enumerated().map { ([("rank", "\($0)"), ("host", $1.host)], $1.seconds) })
    text.series(
      "peak_memory_bytes", "The most memory each rank had resident.",
      ranks.enumerated().map { ([("rank", "\($0)"), ("host", $1.host)], $1.peakMemoryGB.map { $0 * 1e9 }) })
    text.head(
      "skipped_steps_total", "counter",
      "Steps skipped because loss or gradient was not finite or far beyond earlier ones.")
    text.sample("skipped_steps_total", [], Double(skippedSteps))
    text.gauge("last_checkpoint_step", "Step of the newest checkpoint.", checkpoint.map { Double($0.step) })
    text.gauge("last_checkpoint_timestamp_seconds", "When the newest checkpoint was complete.", checkpoint?.time)
    return text.text
  }
}

/// Lines of the text format; every sample has the label `run`.
private struct PrometheusText {
  var text = ""
  let run: String

  init(run: String) { self.run = run }

  mutating func head(_ name: String, _ type: String, _ help: String) {
    text += "# HELP orpo_dist_\(name) \(help)\n# TYPE orpo_dist_\(name) \(type)\n"
  }

  mutating func sample(_ name: String, _ labels: [(String, String)], _ value: Double) {
    let labels = ([("run", run)] + labels).map { "\($0)=\"\(Self.escaped($1))\"" }.joined(separator: ",")
    text += "orpo_dist_\(name){\(labels)} \(Self.number(value))\n"
  }

  mutating func gauge(_ name: String, _ help: String, _ value: Double?) { series(name, help, [([], value)]) }

  mutating func series(_ name: String, _ help: String, _ samples: [([(String, String)], Double?)]) {
    guard samples.contains(where: { $0.1 != nil }) else { return }
    head(name, "gauge", help)
    for (labels, value) in samples { if let value { sample(name, labels, value) } }
  }

  private static func number(_ value: Double) -> String {
    if value.isNaN { return "NaN" }
    if value.isInfinite { return value < 0 ? "-Inf" : "+Inf" }
    return value == value.rounded() && abs(value) < 1e15 ? String(Int(value)) : "\(value)"
  }

  private static func escaped(_ label: String) -> String {
    label.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"").replacing("\n", with: "\\n")
  }
}
