/// A place that log entries go to.
package protocol MetricSink: AnyObject {
  /// What a warning calls this sink.
  var name: String { get }
  func write(_ entry: LogEntry) throws
  /// After the last entry.
  func finish() throws
}

extension MetricSink {
  package func finish() {}
}

/// Hands every entry to all sinks. A sink that fails never ends training: one warning, and the next entry is tried
/// again.
package final class MetricLog {
  private var sinks: [any MetricSink]
  private var warned: Set<String> = []
  private let warn: (String) -> Void

  package init(_ sinks: [any MetricSink] = [], warn: @escaping (String) -> Void) {
    self.sinks = sinks
    self.warn = warn
  }

  /// Opens a sink and adds it; one that cannot be opened is warned about and left out.
  package func add(_ name: String, _ open: () throws -> any MetricSink) {
    do {
      sinks.append(try open())
    } catch {
      warnOnce(name, error)
    }
  }

  package func write(_ entry: LogEntry) {
    for sink in sinks {
      do {
        try sink.write(entry)
      } catch {
        warnOnce(sink.name, error, "training goes on, and writes it later if it can")
      }
    }
  }

  package func finish() {
    for sink in sinks {
      do {
        try sink.finish()
      } catch {
        warnOnce(sink.name, error)
      }
    }
  }

  private func warnOnce(_ name: String, _ error: any Error, _ then: String = "training goes on without it") {
    guard warned.insert(name).inserted else { return }
    warn("\(name): \(error); \(then)")
  }
}

extension MetricLog {
  /// The files of a run: `metrics.jsonl`, and TensorBoard's under `runs/` when the configuration asks for them.
  /// - Parameter step: where the run continues; nil starts `metrics.jsonl` and a TensorBoard run anew.
  package func addFiles(of configuration: TrainingConfiguration, resumingAt step: Int?, history: [LogEntry]) {
    let directory = configuration.outputDir
    add("metrics.jsonl") { try MetricsFile(path: directory + "/metrics.jsonl", history: history) }
    guard configuration.reportTo.tensorBoard else { return }
    add("TensorBoard") {
      let sink = try TensorBoardSink(directory: directory + "/runs", resumingAt: step)
      if step == nil { try sink.write(text: configuration.resolvedYAML, tag: "configuration") }
      return sink
    }
  }
}
