package import JSON

/// What the journal says, in bounded memory: how often each thing happened since the run last began anew, and the last
/// events themselves.
package struct JournalDigest: Sendable {
  package struct Event: Sendable {
    package var time: Double
    package var name: String
    package var step: Int
    /// Members besides time, event and step as `key value` pairs, as far as they are shown: cleaned and cut.
    package var detailText: String
  }

  /// Since the last `started`.
  package private(set) var counts: [String: Int] = [:]
  /// The newest, in order.
  package private(set) var events: [Event] = []
  /// Events that are not in `events` any more.
  package private(set) var forgotten = 0
  /// Of all times, `resumed` among them.
  package private(set) var starts = 0

  package static let limit = 400

  package init() {}

  package var isEmpty: Bool { events.isEmpty }

  /// Lines without a time or a name are passed over.
  package mutating func add(_ line: JSONValue) {
    guard let name = line["event"]?.string, let time = line["time"]?.double, time.isFinite else { return }
    if name == "started" { counts.removeAll() }
    if name == "started" || name == "resumed" { starts += 1 }
    if counts[name] != nil || counts.count < 64 { counts[name, default: 0] += 1 }
    let details = (line.object?.members ?? []).lazy
      .filter { !["time", "event", "step"].contains($0.key.possibleName) }.prefix(20)
      .map { "\($0.key) \($0.value.string ?? $0.value.serialized())" }.joined(separator: ", ")
    events.append(
      Event(time: time, name: name.cleaned, step: line["step"]?.integer ?? 0, detailText: details.cleaned))
    guard events.count >= 2 * Self.limit else { return }
    forgotten += events.count - Self.limit
    events.removeFirst(events.count - Self.limit)
  }

  package func last(_ name: String) -> Event? { events.last { $0.name == name } }

  /// What went wrong: everything but starts, saved checkpoints and the end.
  package var faults: [Event] {
    events.filter { !["started", "resumed", "checkpoint_saved", "finished"].contains($0.name) }
  }
}
