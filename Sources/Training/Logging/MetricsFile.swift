import Checkpoints
import Foundation
internal import JSON
internal import ModelFiles

/// `metrics.jsonl`: one flat JSON object a line, on disk as soon as it is logged.
package final class MetricsFile: MetricSink {
  package let name = "metrics.jsonl"
  private let file: AppendedFile

  /// - Parameter step: where the run continues: lines of later steps, left by a run that was interrupted, are dropped.
  ///   nil starts anew.
  package init(path: String, resumingAt step: Int?) throws {
    let kept = try step.flatMap { step in
      try ReadableFile.contents(ifPresent: path, limit: 1 << 30).map { Self.lines(of: $0, upTo: step) }
    }
    try Folders.create((path as NSString).deletingLastPathComponent)
    try AppendedFile.replace(path, with: kept ?? [])
    file = try AppendedFile(path: path)
  }

  package func write(_ entry: LogEntry) throws {
    try file.append(Array((entry.json.serialized() + "\n").utf8))
  }

  package func finish() throws { try file.writeWaiting() }

  /// Whole lines whose `step` is at most `step`, as they are.
  private static func lines(of contents: [UInt8], upTo step: Int) -> [UInt8] {
    var kept: [UInt8] = []
    for line in contents.split(separator: UInt8(ascii: "\n")) {
      guard let entry = try? JSONValue(parsing: line), let found = entry["step"]?.integer, found <= step else {
        continue
      }
      kept += line + [UInt8(ascii: "\n")]
    }
    return kept
  }
}
