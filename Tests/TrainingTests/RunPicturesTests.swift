import Foundation
import JSON
import Testing
import Training

@Suite struct TerminalChartTests {
  @Test func asciiIsDrawnPointByPoint() {
    let chart = TerminalChart(
      points: (0...9).map { (x: Double($0), y: Double(9 - $0)) }, columns: 13, rows: 10, isUnicode: false)
    var expected = (0...9).map { row in
      (row == 0 ? "9" : row == 9 ? "0" : " ") + " |" + String(repeating: " ", count: row) + "*"
    }
    expected += ["  +----------", "   step 0   9"]
    #expect(chart.lines == expected)
  }

  @Test func brailleHasEightDotsToACharacter() {
    // Two columns of dots and four rows make one character; a falling diagonal sets dots 1, 5, 3 + 7.. of each.
    let chart = TerminalChart(points: [(0, 1), (19, 0)], columns: 13, rows: 2, isUnicode: true)
    #expect(chart.lines.count == 4)
    #expect(chart.lines[0].hasPrefix("1 ┤⠉") && chart.lines[1].hasPrefix("0 ┤"))
    #expect(chart.lines[1].hasSuffix("⣀"))
    let dots = chart.lines.prefix(2).joined().unicodeScalars.filter { (0x2801...0x28FF).contains($0.value) }
    #expect(dots.reduce(0) { $0 + ($1.value - 0x2800).nonzeroBitCount } == 20)
  }

  @Test func fewAndStrangePointsAreDrawnToo() {
    let one = TerminalChart(points: [(3, 2.5)], columns: 40, rows: 8, isUnicode: false).lines
    #expect(one.count == 10 && one[4].hasPrefix("2.5 |") && one.joined().count { $0 == "*" } == 1)
    #expect(one[9].trimmingCharacters(in: .whitespaces) == "step 3")
    #expect(TerminalChart(points: [], columns: 80, rows: 8, isUnicode: true).lines.isEmpty)
    #expect(TerminalChart(points: [(1, .nan)], columns: 80, rows: 8, isUnicode: true).lines.isEmpty)
    #expect(TerminalChart(points: [(1, 1)], columns: 5, rows: 8, isUnicode: true).lines.isEmpty)
    let flat = TerminalChart(points: [(1, 0), (2, 0)], columns: 30, rows: 4, isUnicode: true).lines
    #expect(flat.count == 6 && flat.count { $0.contains("┤") } == 1)
    for lines in [one, flat] { #expect(lines.allSatisfy { $0.count <= 40 }) }
  }
}

@Suite struct CurveTests {
  @Test func neighboursAreJoinedWhereThereAreTooMany() {
    var curve = Curve(limit: 4)
    for step in 1...9 { curve.add(step: step, value: Double(step)) }
    #expect(curve.points.map(\.firstStep) == [1, 5, 9] && curve.points.map(\.lastStep) == [4, 8, 9])
    #expect(curve.points.map(\.mean) == [2.5, 6.5, 9] && curve.points.map(\.least) == [1, 5, 9])
    #expect(curve.range == 1...9)
  }

  @Test func whatIsNotFiniteIsAGapAndStepsOnlyRise() {
    var curve = Curve()
    for (step, value) in [(1, 1.0), (2, .nan), (2, 5), (3, .infinity), (4, 1e300), (1, 7), (-2, 7), (5, 2)] {
      curve.add(step: step, value: value)
    }
    #expect(curve.points.map(\.mean) == [1, 2] && curve.gaps == 3)
  }
}

@Suite struct HTMLReportTests {
  /// A folder with `count` log entries and an evaluation.
  private func page(_ count: Int) throws -> String {
    try withTemporaryDirectory { directory in
      var status = RunStatus()
      (status.state, status.time, status.step, status.totalSteps) = (.training, 10, count, 300)
      status.ranks = [.init(host: "a", seconds: 1), .init(host: "b", seconds: 2)]
      try status.json.serialized().write(toFile: directory + "/status.json", atomically: true, encoding: .utf8)
      let metrics = try MetricsFile(path: directory + "/metrics.jsonl", history: [])
      for step in stride(from: 1, through: count, by: 1) {
        try metrics.write(
          LogEntry(
            step: step, epoch: 0,
            metrics: [
              .init("loss", 3 / Double(step)), .init("learning_rate", 2e-5), .init("grad_norm", step == 2 ? .nan : 1),
            ]))
      }
      if count > 0 { try metrics.write(LogEntry(step: count, epoch: 0, metrics: [.init("eval_loss", 2)])) }
      try TrainingConfiguration(
        yaml: "model_name_or_path: m\ntrain_file: t\nseed: 7\n", location: "run.yaml"
      ).resolvedYAML.write(toFile: directory + "/orpo_config.yaml", atomically: true, encoding: .utf8)
      let folder = try RunFolder(path: directory, now: 11)
      return HTMLReport(folder, health: RunHealth(folder, host: "elsewhere")).text
    }
  }

  /// Names of the elements, after a check that every one is closed in its place.
  private func elements(_ page: String) throws -> [String] {
    var (open, all): ([String], [String]) = ([], [])
    for part in page.components(separatedBy: "<").dropFirst() {
      let tag = try #require(part.components(separatedBy: ">").first)
      try #require(tag.count < part.count, "an element without an end: \(part.prefix(60))")
      if tag.hasPrefix("!") { continue }
      let name = String(tag.drop { $0 == "/" }.prefix { $0.isLetter || $0.isNumber })
      if tag.hasPrefix("/") {
        try #require(open.popLast() == name, "\(name) is closed where it is not open")
      } else {
        all.append(name)
        if !tag.hasSuffix("/"), name != "meta" { open.append(name) }
      }
    }
    #expect(open.isEmpty)
    return all
  }

  @Test(arguments: [0, 1, 2, 300]) func isOneWholePageThatFetchesNothing(_ count: Int) throws {
    let page = try page(count)
    let elements = try elements(page)
    #expect(elements.count { $0 == "svg" } == (count == 0 ? 0 : 3))
    for word in ["http://", "https://", "src=", "url(", "@import", "href"] { #expect(!page.contains(word), "\(word)") }
    #expect(!elements.contains { ["script", "link", "img", "iframe", "object"].contains($0) })
    #expect(!page.contains("NaN") && !page.contains("nan,") && !page.contains("inf"))
    // Only what was set for this run is in the table.
    #expect(page.contains("<tr><td>seed</td><td>7</td></tr>") && !page.contains("<td>max_length</td>"))
    // A single point is a mark; a line would have no length.
    if count == 1 { #expect(elements.count { $0 == "circle" } == 4 && !elements.contains("polyline")) }
    if count == 300 { #expect(elements.count { $0 == "polyline" } == 3) }
    if count == 2 { #expect(page.contains("not finite, left out: 1<")) }
  }
}
