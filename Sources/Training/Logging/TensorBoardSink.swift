import Foundation

/// TensorBoard event files under transformers' tags: `train/loss`, `eval/rewards/accuracies`.
package final class TensorBoardSink: MetricSink {
  package let name = "TensorBoard"
  /// The run's folder.
  package let directory: String
  private let file: EventFile

  /// - Parameters:
  ///   - directory: holds one folder per run, named by start and host as transformers does.
  ///   - step: where the run continues, in the newest folder there: curves go on, and what an interrupted run logged of
  ///     later steps is forgotten. nil starts a folder.
  package init(directory: String, resumingAt step: Int?) throws {
    let now = Date()
    let newest = step == nil ? nil : Self.newestRun(in: directory)
    self.directory = newest ?? directory + "/" + Self.runName(now)
    file = try EventFile(directory: self.directory, time: now)
    if let step { try file.append(step: step + 1) { $0.sessionLog.status = .start } }
  }

  package func write(_ entry: LogEntry) throws {
    try file.append(step: entry.step) { event in
      event.summary.value = entry.metrics.map { metric in
        var value = TensorBoardSummary.Value()
        value.tag = Self.tag(metric.name)
        value.simpleValue = Float(metric.value)
        return value
      }
    }
  }

  /// A text in TensorBoard's text dashboard, shown as it is.
  package func write(text: String, tag: String) throws {
    try file.append(step: 0) { event in
      var value = TensorBoardSummary.Value()
      value.tag = tag + "/text_summary"
      value.metadata.pluginData.pluginName = "text"
      value.tensor.dtype = 7
      var dimension = TensorBoardTensor.Shape.Dimension()
      dimension.size = 1
      value.tensor.tensorShape.dim = [dimension]
      // The dashboard reads Markdown, in which four spaces mean verbatim.
      let verbatim = text.split(separator: "\n", omittingEmptySubsequences: false).map { "    " + $0 }
      value.tensor.stringVal = [Data(verbatim.joined(separator: "\n").utf8)]
      event.summary.value = [value]
    }
  }

  package func finish() throws { try file.synchronize() }

  /// Tags of transformers' `rewrite_logs`.
  package static func tag(_ metric: String) -> String {
    metric.hasPrefix("eval_") ? "eval/" + metric.dropFirst("eval_".count) : "train/" + metric
  }

  private static func runName(_ time: Date) -> String {
    let format = DateFormatter()
    format.locale = Locale(identifier: "en_US_POSIX")
    format.dateFormat = "MMMdd_HH-mm-ss"
    return format.string(from: time) + "_" + ProcessInfo.processInfo.hostName
  }

  private static func newestRun(in directory: String) -> String? {
    let manager = FileManager.default
    let runs = ((try? manager.contentsOfDirectory(atPath: directory)) ?? []).map { directory + "/" + $0 }
    let dated = runs.compactMap { path -> (path: String, date: Date)? in
      guard let attributes = try? manager.attributesOfItem(atPath: path),
        attributes[.type] as? FileAttributeType == .typeDirectory,
        let date = attributes[.modificationDate] as? Date
      else { return nil }
      return (path, date)
    }
    return dated.max { ($0.date, $0.path) < ($1.date, $1.path) }?.path
  }
}
