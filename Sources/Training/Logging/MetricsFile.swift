import Checkpoints
import Foundation
internal import JSON
internal import ModelFiles

/// `metrics.jsonl`: one flat JSON object a line, handed to the system as soon as it is logged.
package final class MetricsFile: MetricSink {
  package let name = "metrics.jsonl"
  private let file: AppendedFile

  /// - Parameter history: entries up to where the run continues, of its checkpoint: whatever the file holds is replaced, so
  ///   that it has each of them once, and none of what an interrupted run did after that.
  package init(path: String, history: [LogEntry]) throws {
    try Folders.create((path as NSString).deletingLastPathComponent)
    try AppendedFile.replace(path, with: history.flatMap(Self.line))
    file = try AppendedFile(path: path)
  }

  package func write(_ entry: LogEntry) throws { try file.append(Self.line(entry)) }

  package func finish() throws { try file.writeWaiting() }

  private static func line(_ entry: LogEntry) -> [UInt8] { Array((entry.json.serialized() + "\n").utf8) }
}
