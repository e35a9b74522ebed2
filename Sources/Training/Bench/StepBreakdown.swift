package import Timeline

/// Where the time of a step goes: sums over the spans of all ranks.
package struct StepBreakdown: Sendable, Equatable {
  package struct Line: Sendable, Equatable {
    package var part: StepPart
    /// Seconds of one step, mean over steps and ranks.
    package var forward: Double
    package var backward: Double

    package var seconds: Double { forward + backward }
  }

  /// Every part, in the order of `StepPart`, also those without time. They add up to `stepSeconds`.
  package var lines: [Line]
  /// Duration of one step, mean over steps and ranks.
  package var stepSeconds: Double
  package var steps: Int

  package subscript(part: StepPart) -> Line { lines[StepPart.allCases.firstIndex(of: part) ?? 0] }

  /// - Parameter ranks: every rank's spans, in one clock. What is outside a span named `step` does not count, nor what
  ///   other threads than that of the steps do meanwhile: only that they are waited for.
  package init(ranks: [RankSpans]) {
    var forward = [StepPart: Int64](), backward = [StepPart: Int64]()
    var total: Int64 = 0
    var steps = 0
    let arrivals = Self.arrivals(ranks)
    for rank in ranks {
      let own = rank.ownTimes
      let stepSpans = rank.spans.filter { $0.thread == 0 && $0.name == "step" }
      let backwardSpans = rank.spans.filter { $0.thread == 0 && $0.name == "backward" }
      total += stepSpans.reduce(0) { $0 + $1.duration }
      steps += stepSpans.count
      var occurrences: [Place: Int] = [:]
      for (span, time) in zip(rank.spans, own) where span.thread == 0 {
        let part = StepPart.of(span.name)
        guard stepSpans.contains(where: { $0.contains(span) }) else { continue }
        // Whatever backward does counts as its own, also what it computes again.
        let isBackward = backwardSpans.contains { $0.contains(span) } && part != .reduction
        var time = time
        if StepPart.collectives.contains(span.name) {
          let place = Place(name: span.name, index: span.index)
          let last = arrivals[place]?[occurrences[place, default: 0]] ?? span.begin
          occurrences[place, default: 0] += 1
          let waited = min(time, max(last - span.begin, 0))
          forward[.waiting, default: 0] += waited
          time -= waited
        }
        if isBackward { backward[part, default: 0] += time } else { forward[part, default: 0] += time }
      }
    }
    let scale = 1e-9 / Double(max(steps, 1))
    lines = StepPart.allCases.map {
      Line(part: $0, forward: Double(forward[$0] ?? 0) * scale, backward: Double(backward[$0] ?? 0) * scale)
    }
    stepSeconds = Double(total) * scale
    self.steps = steps / max(ranks.count, 1)
  }

  private struct Place: Hashable {
    var name: String
    var index: Int
  }

  /// When the last rank came to each collective, by its place and how often that had come before.
  private static func arrivals(_ ranks: [RankSpans]) -> [Place: [Int64]] {
    var last: [Place: [Int64]] = [:]
    for rank in ranks {
      var occurrences: [Place: Int] = [:]
      for span in rank.spans where span.thread == 0 && StepPart.collectives.contains(span.name) {
        let place = Place(name: span.name, index: span.index)
        let occurrence = occurrences[place, default: 0]
        occurrences[place] = occurrence + 1
        var begins = last[place] ?? []
        if occurrence < begins.count {
          begins[occurrence] = max(begins[occurrence], span.begin)
        } else {
          begins.append(span.begin)
        }
        last[place] = begins
      }
    }
    return last
  }
}

extension RankSpans.Span {
  fileprivate func contains(_ other: Self) -> Bool { begin <= other.begin && other.end <= end }
}
