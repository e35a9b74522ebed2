/// What `orpo-dist status` prints.
package struct StatusText {
  package var folder: RunFolder
  package var health: RunHealth
  package var columns: Int
  package var isUnicode: Bool

  package init(_ folder: RunFolder, health: RunHealth, columns: Int, isUnicode: Bool) {
    self.folder = folder
    self.health = health
    self.columns = min(max(columns, 40), 160)
    self.isUnicode = isUnicode
  }

  package var text: String {
    var lines = [head]
    lines += facts.map { Self.padded($0.0, 12) + $0.1 }
    let chart = lossChart
    if !chart.isEmpty { lines += ["", "loss"] + chart }
    let ranks = rankLines
    if !ranks.isEmpty { lines += [""] + ranks }
    lines.append("")
    for (index, remark) in health.remarks.enumerated() {
      let mark = remark.level == .ok || remark.level == .note ? "" : "\(remark.level.rawValue): "
      lines.append(Self.padded(index == 0 ? "health" : "", 12) + mark + remark.text)
    }
    return lines.joined(separator: "\n")
  }

  private var head: String {
    guard let status = folder.status else {
      let step = (folder.lastLog ?? folder.lastEvaluation).map { ", logged up to step \($0.step)" } ?? ""
      return "\(folder.path.cleaned): no status\(step)"
    }
    let isDead = health.processFound == false
    let state = isDead ? "dead" : status.state.rawValue
    return "\(folder.path.cleaned): \(state), step \(Self.progress(status))"
  }

  static func progress(_ status: RunStatus) -> String {
    var text = "\(status.step)"
    if status.totalSteps > 0 {
      let percent = Double(status.step) / Double(status.totalSteps) * 100
      text += " of \(status.totalSteps) (\(Figure.text((percent * 10).rounded() / 10)) %)"
    }
    return text + ", epoch \(Figure.text(status.epoch))"
  }

  private var facts: [(String, String)] {
    var facts: [(String, String)] = []
    let status = folder.status
    if let status, let seconds = status.stepSeconds {
      let pairs = status.pairsPerSecond.map { ", \(Figure.text($0)) pairs/s" } ?? ""
      facts.append(("speed", "\(Figure.seconds(seconds)) a step\(pairs)"))
    }
    if let status, !status.state.isLast, let left = status.secondsLeft {
      facts.append(("time left", ProgressLine.duration(left)))
    }
    if let loss = status?.loss, let step = status?.step {
      let norm = status?.gradientNorm.map { ", grad_norm \(Figure.text($0))" } ?? ""
      facts.append(("loss", "\(Figure.text(loss)) at step \(step)\(norm)"))
    } else if let log = folder.lastLog, let loss = log["loss"] {
      facts.append(("loss", "\(Figure.text(loss)) at step \(log.step)"))
    }
    if let entry = folder.lastEvaluation ?? status?.evaluation {
      let names = ["eval_loss", "eval_nll_loss", "eval_rewards/accuracies", "eval_rewards/margins"]
      let values = names.compactMap { name in entry[name].map { "\(name.dropFirst(5)) \(Figure.text($0))" } }
      facts.append(("evaluation", "step \(entry.step): " + values.joined(separator: ", ")))
    }
    facts.append(("checkpoint", checkpointText))
    return facts
  }

  private var checkpointText: String {
    guard let newest = folder.checkpoints.first(where: { $0.defect == nil }) else {
      return folder.checkpoints.isEmpty ? "none" : "none that can be used"
    }
    let age = newest.time.map { ", \(Age.text(folder.time - $0)) ago" } ?? ""
    let state =
      newest.isVerified ? "verified: every file has its checksum" : "complete, contents not read (--verify does)"
    return "\(newest.name)\(age), \(Figure.bytes(Double(newest.bytes))), \(state)"
  }

  private var lossChart: [String] {
    let points = (folder.curves["loss"]?.points ?? []).map { (x: $0.step, y: $0.mean) }
    return TerminalChart(points: points, columns: columns, rows: 8, isUnicode: isUnicode).lines
  }

  /// Every rank, or of many the slowest.
  private var rankLines: [String] {
    guard let status = folder.status, !status.ranks.isEmpty else { return [] }
    let hosts = Set(status.ranks.map(\.host)).count
    var head = "ranks       \(status.ranks.count) on \(hosts) host\(hosts == 1 ? "" : "s")"
    if let slowest = status.slowest {
      head +=
        "; slowest is rank \(slowest.rank) on \(status.ranks[slowest.rank].host): \(Figure.seconds(slowest.seconds)), median \(Figure.seconds(slowest.median))"
    }
    let slowFirst = status.ranks.enumerated().sorted { ($0.element.seconds ?? 0) > ($1.element.seconds ?? 0) }
    let shown = slowFirst.prefix(8).sorted { $0.offset < $1.offset }
    let rows = shown.map { rank, figures in
      [
        "\(rank)", figures.host, figures.seconds.map(Figure.seconds) ?? "-",
        figures.peakMemoryGB.map { Figure.bytes($0 * 1e9) } ?? "-",
      ]
    }
    let table = TextTable(rows: [["rank", "host", "own time", "peak memory"]] + rows, rightFrom: 2).text
    let more = status.ranks.count > shown.count ? ["(the slowest \(shown.count) are shown)"] : []
    return [head] + (table.split(separator: "\n").map(String.init) + more).map { Self.padded("", 12) + $0 }
  }

  private static func padded(_ text: String, _ width: Int) -> String {
    text + String(repeating: " ", count: max(width - text.count, 0))
  }
}
