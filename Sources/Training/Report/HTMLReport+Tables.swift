import JSON

extension HTMLReport {
  private static let rowLimit = 200

  var faults: HTML {
    let events = folder.journal.events
    guard !events.isEmpty else { return "" }
    let faults = folder.journal.faults.count
    let summary: HTML =
      "<p>\(folder.journal.starts) start\(folder.journal.starts == 1 ? "" : "s"), \(faults) event\(faults == 1 ? "" : "s") out of the ordinary.</p>\n"
    let rows = events.suffix(Self.rowLimit).reversed().map { event in
      [Figure.date(event.time), event.name, "\(event.step)", event.detailText.cleaned]
    }
    let left = events.count - rows.count + folder.journal.forgotten
    let note: HTML = left > 0 ? "<p class=\"note\">\(left) older events are not shown.</p>\n" : ""
    return section(
      "Faults and restarts",
      summary + .table(head: ["time", "event", "step", "details"], rows: rows, numbers: 9) + note)
  }

  var checkpoints: HTML {
    guard !folder.checkpoints.isEmpty else { return section("Checkpoints", "<p>None.</p>\n") }
    let rows = folder.checkpoints.map { checkpoint in
      [
        checkpoint.name, checkpoint.time.map(Figure.date) ?? "-",
        checkpoint.bytes > 0 ? Figure.bytes(Double(checkpoint.bytes)) : "-",
        checkpoint.defect.map { "cannot be used: \($0)" } ?? (checkpoint.isVerified ? "verified" : "complete"),
      ]
    }
    return section("Checkpoints", .table(head: ["", "complete at", "size", "state"], rows: rows, numbers: 9))
  }

  // MARK: - Data

  var data: HTML {
    guard let report = folder.dataReport else { return "" }
    var body: HTML = ""
    if let training = report["training_pairs"]?.integer, let evaluation = report["evaluation_pairs"]?.integer {
      body += "<p>\(training) training pairs, \(evaluation) held out.</p>\n"
    }
    for (key, title) in [("training", "Training files"), ("evaluation", "Evaluation files")] {
      guard let part = report[key], part.object != nil else { continue }
      body += "<h3>\(title)</h3>\n" + files(part)
    }
    return section("Data", body)
  }

  private func files(_ report: JSONValue) -> HTML {
    let names = (report["files"]?.array ?? []).compactMap(\.string).prefix(20).joined(separator: ", ")
    var body: HTML = "<p>\(names)</p>\n"
    func count(_ key: String) -> String { report[key]?.integer.map { "\($0)" } ?? "-" }
    func truncated(_ key: String) -> String { report[key]?["count"]?.integer.map { "\($0)" } ?? "-" }
    body += .table(
      head: ["rows read", "kept", "left out", "prompt truncated", "completion truncated", "empty prompts"],
      rows: [
        [
          count("rows_read"), count("rows_kept"), count("rows_left_out"), truncated("truncated_prompts"),
          truncated("truncated_completions"), count("empty_prompts"),
        ]
      ], numbers: 0)
    let lengths = (report["lengths"]?.object?.members ?? []).prefix(20).map { member in
      [member.key.replacing("_", with: " ")]
        + ["p50", "p90", "p99", "max", "total"].map { key in member.value[key]?.integer.map { "\($0)" } ?? "-" }
    }
    if !lengths.isEmpty {
      body += .table(head: ["tokens", "p50", "p90", "p99", "max", "total"], rows: Array(lengths), numbers: 1)
    }
    for kind in (report["left_out"]?.array ?? []).prefix(20) {
      let rows = (kind["rows"]?.array ?? []).prefix(20).map { row -> HTML in
        "<li>\(row["file"]?.string ?? "?"):\(row["line"]?.integer ?? 0): \(row["reason"]?.string ?? "?")</li>\n"
      }
      body += """
        <details><summary>left out, \(kind["reason"]?.string ?? "?"): \(kind["count"]?.integer ?? 0)</summary>
        <ul>
        \(Array(rows).concatenated)</ul></details>

        """
    }
    return body
  }

  // MARK: - Configuration

  /// What differs from the defaults first: that is what makes the run.
  var configuration: HTML {
    guard !folder.configuration.isEmpty else { return "" }
    let resolved = (try? TrainingConfiguration(yaml: "", location: "", for: .bench)) ?? TrainingConfiguration()
    let defaults = Set(resolved.resolvedYAML.split(separator: "\n").map(String.init))
    let lines = folder.configuration.prefix(500).filter { !$0.hasPrefix("#") }
    let set = lines.filter { !defaults.contains($0) }.map { line -> [String] in
      guard let colon = line.firstIndex(of: ":") else { return [line, ""] }
      let value = line[line.index(after: colon)...].drop { $0 == " " }
      return [String(line[..<colon]), String(value)]
    }
    return section(
      "Configuration",
      .table(head: ["set for this run", "value"], rows: set, numbers: 9)
        + "<details><summary>every key</summary>\n<pre>\(lines.joined(separator: "\n"))</pre></details>\n")
  }
}
