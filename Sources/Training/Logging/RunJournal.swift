import Foundation
package import JSON
import ModelFiles

/// `journal.jsonl`: what happened to a run, one JSON object a line, over all its restarts: starts, checkpoints, skipped
/// steps, signals. Lines are only ever added.
///
/// A line that cannot be written is one warning, never an end of training. Any thread may append.
package final class RunJournal: @unchecked Sendable {
  package static let fileName = "journal.jsonl"

  private let file: AppendedFile
  private let warn: (String) -> Void
  private let now: () -> Double
  private let lock = NSLock()
  private var hasWarned = false
  private var saved: RunStatus.SavedCheckpoint?

  /// Step and time of the last `checkpoint_saved` of this process.
  package var lastCheckpoint: RunStatus.SavedCheckpoint? { lock.withLock { saved } }

  /// Opens for appending, creating the file when missing.
  /// - Parameter now: seconds since 1970.
  package init(
    path: String, warn: @escaping (String) -> Void = { StandardError.write($0 + "\n") },
    now: @escaping () -> Double = { Date().timeIntervalSince1970 }
  ) throws {
    file = try AppendedFile(path: path)
    self.warn = warn
    self.now = now
    // A machine that lost power may have left half a line, which the first new one must not be glued to.
    if Self.endsWithinALine(path) { try file.append([UInt8(ascii: "\n")]) }
  }

  /// - Parameter step: optimizer steps completed.
  package func append(_ event: String, step: Int, _ details: [(String, JSONValue)] = []) {
    lock.lock()
    defer { lock.unlock() }
    let time = (now() * 1000).rounded() / 1000
    if event == "checkpoint_saved" { saved = .init(step: step, time: time) }
    let head: [(key: String, value: JSONValue)] = [
      ("time", .double(time)), ("event", .string(event)), ("step", .integer(step)),
    ]
    let object = JSONObject(head + details.map { (key: $0.0, value: $0.1) })
    do {
      try file.append(Array((JSONValue.object(object).serialized() + "\n").utf8))
    } catch {
      guard !hasWarned else { return }
      hasWarned = true
      warn("warning: \(Self.fileName): \(error); training goes on, and writes it later if it can")
    }
  }

  /// Whether the journal at `path` has an event with these details.
  package static func holds(_ event: String, _ details: [(String, String)], path: String) -> Bool {
    guard let bytes = try? ReadableFile.contents(ifPresent: path, limit: 1 << 28) else { return false }
    return bytes.split(separator: UInt8(ascii: "\n")).contains { line in
      guard let entry = try? JSONValue(parsing: line), entry["event"]?.string == event else { return false }
      return details.allSatisfy { entry[$0.0]?.string == $0.1 }
    }
  }

  private static func endsWithinALine(_ path: String) -> Bool {
    guard let handle = FileHandle(forReadingAtPath: path), let end = try? handle.seekToEnd(), end > 0 else {
      return false
    }
    try? handle.seek(toOffset: end - 1)
    return (try? handle.read(upToCount: 1))?.first != UInt8(ascii: "\n")
  }
}
