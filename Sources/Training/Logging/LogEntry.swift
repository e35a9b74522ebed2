package import JSON

/// What is logged at one step: metrics by TRL's names, in the order they are shown.
package struct LogEntry: Sendable, Equatable {
  package struct Metric: Sendable, Equatable {
    package var name: String
    package var value: Double

    package init(_ name: String, _ value: Double) {
      self.name = name
      self.value = value
    }
  }

  /// Optimizer steps completed.
  package var step: Int
  /// Passes over the data completed, with fraction.
  package var epoch: Double
  package var metrics: [Metric]

  package init(step: Int, epoch: Double, metrics: [Metric]) {
    self.step = step
    self.epoch = epoch
    self.metrics = metrics
  }

  package subscript(name: String) -> Double? { metrics.first { $0.name == name }?.value }
}

extension LogEntry {
  /// One flat object: `step`, `epoch`, then the metrics. A value that is not finite becomes null.
  package var json: JSONValue {
    let head: [(key: String, value: JSONValue)] = [("step", .integer(step)), ("epoch", .double(epoch))]
    return .object(JSONObject(head + metrics.map { (key: $0.name, value: .double($0.value)) }))
  }

  /// Reads back `json`, or an entry of transformers' `log_history`; null becomes NaN, other non-numbers are left out.
  /// nil without a whole `step`.
  package init?(json: JSONValue) {
    guard let object = json.object, let step = object["step"]?.integer else { return nil }
    let metrics = object.members.compactMap { member -> Metric? in
      if member.key == "step" || member.key == "epoch" { return nil }
      if member.value.isNull { return Metric(member.key, .nan) }
      return member.value.double.map { Metric(member.key, $0) }
    }
    self.init(step: step, epoch: object["epoch"]?.double ?? 0, metrics: metrics)
  }
}
