import Foundation

/// Curves over steps as one inline SVG picture.
struct SVGChart {
  struct Series {
    var name: String
    var curve: Curve
    /// Points with their values, rather than a line.
    var hasMarks = false
  }

  var title: String
  var series: [Series]

  private static let (width, height) = (420.0, 240.0)
  private static let (left, right, top, bottom) = (52.0, 10.0, 8.0, 26.0)

  /// Nothing when no series has a point.
  var html: HTML {
    let drawn = series.filter { !$0.curve.points.isEmpty }
    let ranges = drawn.compactMap(\.curve.range)
    guard let least = ranges.map(\.lowerBound).min(), let most = ranges.map(\.upperBound).max() else { return "" }
    let steps = drawn.flatMap { [$0.curve.points[0].step, $0.curve.points[$0.curve.points.count - 1].step] }
    let frame = Frame(x: Axis(steps.min() ?? 0, steps.max() ?? 0, isWhole: true), y: Axis(least, most))
    var body: HTML = frame.grid
    for (index, one) in drawn.enumerated() { body += frame.draw(one, color: index % 6) }
    let keys = drawn.enumerated().map { index, one -> HTML in
      let last = one.curve.last.map { "\(ProgressLine.number($0.value))" } ?? ""
      return "<span class=\"key k\(index % 6)\"><i></i>\(one.name) <b>\(last)</b></span> "
    }.concatenated
    let gaps = drawn.reduce(0) { $0 + $1.curve.gaps }
    let note: HTML = gaps > 0 ? "<p class=\"note\">not finite, left out: \(gaps)</p>" : ""
    return """
      <figure><figcaption>\(title)</figcaption>
      <svg viewBox="0 0 \(Int(Self.width)) \(Int(Self.height))" role="img" aria-label="\(title) over steps">
      \(body)</svg>
      <p class="keys">\(keys)</p>\(note)</figure>

      """
  }

  /// Where values are in the picture.
  private struct Frame {
    var x: Axis
    var y: Axis

    func horizontal(_ step: Double) -> Double {
      SVGChart.left + x.share(step) * (SVGChart.width - SVGChart.left - SVGChart.right)
    }

    func vertical(_ value: Double) -> Double {
      SVGChart.top + (1 - y.share(value)) * (SVGChart.height - SVGChart.top - SVGChart.bottom)
    }

    var grid: HTML {
      let (right, base) = (SVGChart.width - SVGChart.right, SVGChart.height - SVGChart.bottom)
      let rows = y.ticks.map { tick -> HTML in
        let at = vertical(tick)
        return """
          <line class="grid" x1="\(Self.text(SVGChart.left))" x2="\(Self.text(right))" y1="\(Self.text(at))" y2="\(Self.text(at))"/>\
          <text x="\(Self.text(SVGChart.left - 5))" y="\(Self.text(at + 4))" text-anchor="end">\(y.label(tick))</text>

          """
      }.concatenated
      let columns = x.ticks.map { tick -> HTML in
        "<text x=\"\(Self.text(horizontal(tick)))\" y=\"\(Self.text(base + 17))\" text-anchor=\"middle\">\(x.label(tick))</text>\n"
      }.concatenated
      return rows + columns
    }

    func draw(_ series: Series, color: Int) -> HTML {
      let points = series.curve.points
      let hasBand = !series.hasMarks && points.contains { $0.count > 1 }
      var html: HTML = ""
      if hasBand {
        let upper = points.map { place($0.step, $0.most) }
        let lower = points.reversed().map { place($0.step, $0.least) }
        html += "<polygon class=\"band k\(color)\" points=\"\((upper + lower).joined(separator: " "))\"/>\n"
      }
      if points.count > 1 {
        let line = points.map { place($0.step, $0.mean) }.joined(separator: " ")
        html += "<polyline class=\"line k\(color)\" points=\"\(line)\"/>\n"
      }
      // Few points show what they are, and their values to a pointer; a single one would not be seen otherwise.
      guard series.hasMarks ? points.count <= 400 : points.count <= 60 else { return html }
      for point in points {
        let at = (Self.text(horizontal(point.step)), Self.text(vertical(point.mean)))
        html += """
          <circle class="mark k\(color)" cx="\(at.0)" cy="\(at.1)" r="\(points.count == 1 ? "4" : "2.5")">\
          <title>\(series.name), step \(point.lastStep): \(ProgressLine.number(point.mean))</title></circle>

          """
      }
      return html
    }

    private func place(_ step: Double, _ value: Double) -> String {
      "\(Self.text(horizontal(step))),\(Self.text(vertical(value)))"
    }

    private static func text(_ value: Double) -> String { String(format: "%.1f", value) }
  }

  /// A range of values with round numbers to be written beside it.
  struct Axis {
    private(set) var low: Double
    private(set) var high: Double
    private(set) var ticks: [Double] = []
    private var step = 1.0

    init(_ least: Double, _ most: Double, isWhole: Bool = false) {
      (low, high) = (least, most)
      if !(high > low) {
        let margin = isWhole ? 1 : max(abs(low) * 0.05, 1e-9)
        (low, high) = (low - margin, high + margin)
      } else if !isWhole {
        let margin = (high - low) * 0.04
        (low, high) = (low - margin, high + margin)
      }
      let raw = (high - low) / 5
      let power = pow(10, floor(log10(raw)))
      step = [1, 2, 2.5, 5, 10].map { $0 * power }.first { $0 >= raw } ?? 10 * power
      if isWhole { step = max(step.rounded(.up), 1) }
      let first = (low / step).rounded(.up)
      for index in 0..<12 {
        let tick = (first + Double(index)) * step
        // Beyond 2^53 the next whole number may be the same.
        if tick > high || tick == ticks.last { break }
        // A step that has not been is not written at the axis of a single one.
        if !isWhole || least < most || tick == least { ticks.append(tick) }
      }
    }

    func share(_ value: Double) -> Double { high > low ? min(max((value - low) / (high - low), 0), 1) : 0.5 }

    /// As many digits as tell one tick from the next.
    func label(_ tick: Double) -> String {
      if abs(tick) < step / 2 { return "0" }
      let largest = max(abs(low), abs(high))
      if largest >= 1e6 || largest < 0.01 {
        let digits = (0...4).first { digits in
          Set(ticks.map { String(format: "%.\(digits)e", $0) }).count == ticks.count
        }
        // "2e-05" is "2e-5".
        return String(format: "%.\(digits ?? 4)e", tick).replacing("e-0", with: "e-").replacing("e+0", with: "e")
      }
      let digits = max(0, -Int(floor(log10(step) + 1e-9)))
      let text = String(format: "%.\(min(digits + 1, 8))f", tick)
      // "0.50" is "0.5", and so is every other label of this axis when the last digit is never needed.
      return ticks.allSatisfy { String(format: "%.\(min(digits + 1, 8))f", $0).hasSuffix("0") }
        ? String(format: "%.\(min(digits, 8))f", tick) : text
    }
  }
}
