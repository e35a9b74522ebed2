import JSON
package import Timeline

/// Spans of all ranks in the Trace Event Format that chrome://tracing and Perfetto load: a process for each rank, a row
/// for each of its threads.
package enum ChromeTrace {
  /// The file's bytes.
  ///
  /// - Parameters:
  ///   - ranks: spans by rank, in one clock; the first span of all begins at 0.
  ///   - hosts: the ranks' hosts.
  package static func bytes(_ ranks: [RankSpans], hosts: [String]) -> [UInt8] {
    let origin = ranks.compactMap { $0.spans.map(\.begin).min() }.min() ?? 0
    var lines: [String] = []
    for (rank, recorded) in ranks.enumerated() {
      let host = hosts.indices.contains(rank) ? hosts[rank] : "?"
      lines.append(metadata("process_name", rank, thread: 0, name: "rank \(rank) (\(host))"))
      lines.append(metadata("process_sort_index", rank, thread: 0, sortIndex: rank))
      for thread in Set(recorded.spans.map(\.thread)).sorted() {
        lines.append(metadata("thread_name", rank, thread: thread, name: thread == 0 ? "steps" : "communication"))
      }
      // The format wants no order; readers are faster with one, and an outer span first.
      let ordered = recorded.spans.sorted { ($0.begin, -$0.end) < ($1.begin, -$1.end) }
      lines += ordered.map { event($0, rank: rank, origin: origin) }
    }
    let dropped = ranks.reduce(0) { $0 + $1.droppedCount }
    let other: JSONValue = ["program": .string("orpo-dist \(Version.text)"), "dropped_spans": .integer(dropped)]
    let text =
      "{\"displayTimeUnit\": \"ms\", \"otherData\": \(other.serialized()), \"traceEvents\": [\n"
      + lines.joined(separator: ",\n") + "\n]}\n"
    return Array(text.utf8)
  }

  private static func metadata(
    _ kind: JSONValue, _ rank: Int, thread: Int, name: String? = nil, sortIndex: Int = 0
  ) -> String {
    let arguments: JSONValue = name.map { ["name": .string($0)] } ?? ["sort_index": .integer(sortIndex)]
    let event: JSONValue = [
      "name": kind, "ph": "M", "pid": .integer(rank), "tid": .integer(thread), "args": arguments,
    ]
    return event.serialized()
  }

  /// A complete event; times in microseconds with all digits of the clock.
  private static func event(_ span: RankSpans.Span, rank: Int, origin: Int64) -> String {
    var members: [(key: String, value: JSONValue)] = [
      ("name", .string(span.name)), ("cat", .string(StepPart.of(span.name).rawValue)), ("ph", "X"),
      ("pid", .integer(rank)), ("tid", .integer(span.thread)), ("ts", .double(Double(span.begin - origin) / 1000)),
      ("dur", .double(Double(span.duration) / 1000)),
    ]
    if span.index >= 0 { members.append(("args", [argument(span.name): .integer(span.index)])) }
    return JSONValue.object(JSONObject(members)).serialized()
  }

  /// What a span's index counts.
  private static func argument(_ name: String) -> String {
    switch name {
    case "step", "micro-batch": name
    case "layer forward", "layer backward": "layer"
    default: name.hasSuffix("bucket") ? "bucket" : "index"
    }
  }
}
