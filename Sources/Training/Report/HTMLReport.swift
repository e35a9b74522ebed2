import Foundation

/// A run as one page that needs nothing else: no network, no scripts, every picture inside.
package struct HTMLReport {
  let folder: RunFolder
  let health: RunHealth

  package init(_ folder: RunFolder, health: RunHealth) {
    self.folder = folder
    self.health = health
  }

  package var text: String { page.markup }

  private var page: HTML {
    let name = URL(fileURLWithPath: folder.path).lastPathComponent.cleaned
    return """
      <!DOCTYPE html>
      <html lang="en">
      <head>
      <meta charset="utf-8">
      <meta name="viewport" content="width=device-width, initial-scale=1">
      <meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
      <meta name="color-scheme" content="light dark">
      <title>\(name): orpo-dist</title>
      <style>
      \(Self.style)</style>
      </head>
      <body>
      <header><h1>\(name)</h1>
      <p>\(headline)</p></header>
      <main>
      \(sections)</main>
      <footer>Written \(Figure.date(folder.time)) by orpo-dist \(Version.text) from \(folder.path.cleaned)</footer>
      </body>
      </html>

      """
  }

  private var sections: HTML {
    [summary, remarks, section("Curves", curves), speed, ranks, faults, checkpoints, data, configuration].concatenated
  }

  /// Nothing when there is nothing to say.
  func section(_ title: String, _ body: HTML) -> HTML {
    body.markup.isEmpty ? "" : "<section><h2>\(title)</h2>\n\(body)</section>\n"
  }

  private var headline: HTML {
    guard let status = folder.status else { return "no status was found" }
    let state = health.processFound == false ? "dead" : status.state.rawValue
    return "<span class=\"state \(state)\">\(state)</span> step \(StatusText.progress(status))"
  }

  private var summary: HTML {
    var facts: [(String, String)] = []
    if let status = folder.status {
      if let loss = status.loss { facts.append(("loss", Figure.text(loss))) }
      if let seconds = status.stepSeconds { facts.append(("a step", Figure.seconds(seconds))) }
      if let pairs = status.pairsPerSecond { facts.append(("pairs/s", Figure.text(pairs))) }
      if !status.state.isLast, let left = status.secondsLeft { facts.append(("left", ProgressLine.duration(left))) }
    }
    if let log = folder.lastLog {
      if let value = log["rewards/accuracies"] { facts.append(("accuracy", Figure.text(value))) }
      if let value = log["rewards/margins"] { facts.append(("margin", Figure.text(value))) }
    }
    if let entry = folder.lastEvaluation {
      if let value = entry["eval_loss"] { facts.append(("held-out loss", Figure.text(value))) }
      if let value = entry["eval_rewards/accuracies"] { facts.append(("held-out accuracy", Figure.text(value))) }
    }
    guard !facts.isEmpty else { return "" }
    let tiles = facts.map { name, value -> HTML in "<div><b>\(value)</b><span>\(name)</span></div>\n" }.concatenated
    return "<div class=\"tiles\">\n\(tiles)</div>\n"
  }

  private var remarks: HTML {
    let items = health.remarks.map { remark -> HTML in
      "<li class=\"\(remark.level.rawValue)\">\(remark.text)</li>\n"
    }.concatenated
    return section("Health", "<ul class=\"health\">\n\(items)</ul>\n")
  }

  // MARK: - Curves

  private func chart(_ title: String, _ names: [(metric: String, name: String)]) -> HTML {
    let series = names.compactMap { metric, name in
      folder.curves[metric].map { SVGChart.Series(name: name, curve: $0, hasMarks: metric.hasPrefix("eval_")) }
    }
    return SVGChart(title: title, series: series).html
  }

  private var curves: HTML {
    let charts = [
      chart("Loss", [("loss", "training"), ("eval_loss", "held out")]),
      chart("Negative log-likelihood of chosen", [("nll_loss", "training"), ("eval_nll_loss", "held out")]),
      chart(
        "Log odds of chosen over rejected", [("log_odds_chosen", "training"), ("eval_log_odds_chosen", "held out")]),
      chart("Log of the odds ratio's sigmoid", [("log_odds_ratio", "training"), ("eval_log_odds_ratio", "held out")]),
      chart("Reward margin", [("rewards/margins", "training"), ("eval_rewards/margins", "held out")]),
      chart("Reward accuracy", [("rewards/accuracies", "training"), ("eval_rewards/accuracies", "held out")]),
      chart("Rewards", [("rewards/chosen", "chosen"), ("rewards/rejected", "rejected")]),
      chart("Gradient norm before clipping", [("grad_norm", "grad_norm")]),
      chart("Learning rate", [("learning_rate", "learning_rate")]),
    ].concatenated
    return charts.markup.isEmpty ? "<p>Nothing has been logged yet.</p>\n" : "<div class=\"charts\">\n\(charts)</div>\n"
  }

  private var speed: HTML {
    let charts = [
      chart("Pairs per second", [("pairs_per_second", "pairs/s")]),
      chart("Seconds of a step", [("step_time", "step"), ("comm_time", "waiting for others")]),
      chart("Share of the machines' matrix speed", [("mfu", "MFU")]),
      chart("Memory of the largest rank, GB", [("peak_memory_gb", "peak")]),
    ].concatenated
    return section("Speed and memory", charts.markup.isEmpty ? "" : "<div class=\"charts\">\n\(charts)</div>\n")
  }

  private var ranks: HTML {
    guard let status = folder.status, !status.ranks.isEmpty else { return "" }
    let limit = 512
    let median = status.slowest?.median ?? 0
    let rows = status.ranks.prefix(limit).enumerated().map { rank, figures in
      [
        "\(rank)", figures.host, figures.seconds.map(Figure.seconds) ?? "-",
        figures.seconds.flatMap { median > 0 ? "\(Figure.text(($0 / median * 100).rounded())) %" : nil } ?? "-",
        figures.peakMemoryGB.map { Figure.bytes($0 * 1e9) } ?? "-",
      ]
    }
    var body = HTML.table(
      head: ["rank", "host", "own time of a step", "of the median", "peak memory"], rows: rows, numbers: 2)
    if let slowest = status.slowest {
      body +=
        "<p class=\"note\">Slowest in the last step: rank \(slowest.rank) on \(status.ranks[slowest.rank].host).</p>\n"
    }
    if status.ranks.count > limit { body += "<p class=\"note\">The first \(limit) of \(status.ranks.count).</p>\n" }
    return section("Ranks", body)
  }
}
