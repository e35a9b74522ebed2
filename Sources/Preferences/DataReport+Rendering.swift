package import JSON

extension DataReport {
  /// The report for a terminal, columns aligned. At most `named` rows of each kind are named; all are counted.
  package func text(named: Int = 5) -> String {
    var lines = ["data: \(files.joined(separator: ", "))"]
    var counts = [("rows read", rowsRead, ""), ("kept", rowsKept, share(rowsKept))]
    counts.append(("left out", rowsLeftOut, share(rowsLeftOut)))
    counts.append(("prompt truncated", truncatedPrompts.count, share(truncatedPrompts.count)))
    counts.append(("completion truncated", truncatedCompletions.count, share(truncatedCompletions.count)))
    let width = counts.map { "\($0.1)".count }.max() ?? 1
    for (name, count, note) in counts {
      lines.append("  " + Self.padded(name, 22) + Self.padded("\(count)", width, right: true) + note)
    }
    if emptyPrompts > 0 {
      lines.append("  note: \(emptyPrompts) pairs have an empty prompt; is the prompt under another field name?")
    }
    if rowsKept > 0 {
      lines.append("")
      lines.append("  " + Self.padded("tokens", 16) + Self.columns(["p50", "p90", "p99", "max", "total"]))
      for (name, lengths) in table {
        let values = [lengths.p50, lengths.p90, lengths.p99, lengths.max, lengths.total].map { "\($0)" }
        lines.append("  " + Self.padded(name, 16) + Self.columns(values))
      }
      let factor = (sharingFactor * 100).rounded() / 100
      lines.append(
        "  shared prefixes: \(packedRows.total) rows instead of \(rowsWithoutSharing) (\(factor) times fewer)")
    }
    for (kind, count) in defectCounts {
      lines.append("")
      lines.append("  left out, \(kind.rawValue): \(count)")
      let rows = defects.lazy.filter { $0.kind == kind }
      lines += rows.prefix(named).map { "    \($0)" }
      let left = count - min(named, count, Self.mostKept)
      if left > 0 { lines.append("    and \(left) more") }
    }
    for (name, rows) in [("prompt", truncatedPrompts), ("completion", truncatedCompletions)] where !rows.isEmpty {
      let more = rows.count > named ? " and \(rows.count - named) more" : ""
      lines.append("")
      lines.append("  \(name) truncated: " + rows.prefix(named).map(\.description).joined(separator: ", ") + more)
    }
    return lines.joined(separator: "\n") + "\n"
  }

  /// The report as JSON; `named` limits the rows listed of each kind as in `text`.
  package func json(named: Int = 100) -> JSONValue {
    var object = JSONObject([
      ("files", .array(files.map { .string($0) })),
      ("rows_read", .integer(rowsRead)),
      ("rows_kept", .integer(rowsKept)),
      ("rows_left_out", .integer(rowsLeftOut)),
      ("empty_prompts", .integer(emptyPrompts)),
    ])
    for (name, rows) in [("truncated_prompts", truncatedPrompts), ("truncated_completions", truncatedCompletions)] {
      object[name] = [
        "count": .integer(rows.count), "rows": .array(rows.prefix(named).map { .string($0.description) }),
      ]
    }
    object["left_out"] = .array(
      defectCounts.map { kind, count in
        let rows = defects.lazy.filter { $0.kind == kind }.prefix(named)
        return [
          "reason": .string(kind.rawValue), "count": .integer(count),
          "rows": .array(
            rows.map { ["file": .string($0.file), "line": .integer($0.line), "reason": .string($0.reason)] }),
        ]
      })
    object["lengths"] = .object(
      JSONObject(
        table.map { name, lengths in
          let value: JSONValue = [
            "p50": .integer(lengths.p50), "p90": .integer(lengths.p90), "p99": .integer(lengths.p99),
            "max": .integer(lengths.max), "total": .integer(lengths.total),
          ]
          return (key: name.replacing(" ", with: "_"), value: value)
        }))
    object["rows_without_sharing"] = .integer(rowsWithoutSharing)
    object["sharing_factor"] = .double(sharingFactor)
    return .object(object)
  }

  private var table: [(String, Lengths)] {
    [
      ("prompt", prompt), ("chosen", chosen), ("rejected", rejected), ("longer whole", whole),
      ("packed rows", packedRows),
    ]
  }

  private func share(_ count: Int) -> String {
    rowsRead == 0 || count == 0 ? "" : "  (\((Double(count) / Double(rowsRead) * 1000).rounded() / 10) %)"
  }

  private static func columns(_ values: [String]) -> String { values.map { padded($0, 10, right: true) }.joined() }

  private static func padded(_ text: String, _ width: Int, right: Bool = false) -> String {
    let space = String(repeating: " ", count: max(width - text.count, 0))
    return right ? space + text : text + space
  }
}
