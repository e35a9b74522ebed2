import Foundation

/// A curve drawn with characters: Braille dots, eight to a character, or asterisks where only ASCII is sure to be shown.
package struct TerminalChart {
  package var points: [(x: Double, y: Double)]
  /// Of the whole drawing, labels included.
  package var columns: Int
  package var rows: Int
  package var isUnicode: Bool

  package init(points: [(x: Double, y: Double)], columns: Int, rows: Int, isUnicode: Bool) {
    self.points = points
    self.columns = columns
    self.rows = rows
    self.isUnicode = isUnicode
  }

  /// The lines of the drawing; none without points.
  package var lines: [String] {
    let points = points.filter { $0.x.isFinite && $0.y.isFinite }
    guard let first = points.first, let last = points.last, rows >= 2 else { return [] }
    var (low, high) = (points.map(\.y).min() ?? 0, points.map(\.y).max() ?? 0)
    let labels = [ProgressLine.number(high), ProgressLine.number(low)]
    if low == high {
      // A flat curve runs through the middle.
      let margin = max(abs(low) * 0.05, 1e-9)
      (low, high) = (low - margin, high + margin)
    }
    let margin = labels.map(\.count).max() ?? 0
    let width = columns - margin - 2
    guard width >= 10 else { return [] }
    var canvas = Canvas(columns: width, rows: rows, isUnicode: isUnicode)
    let span = last.x - first.x
    var before: (x: Int, y: Int)?
    for point in points {
      let x = span > 0 ? Int(((point.x - first.x) / span * Double(canvas.width - 1)).rounded()) : 0
      let y = Int(((high - point.y) / (high - low) * Double(canvas.height - 1)).rounded())
      canvas.line(from: before ?? (x, y), to: (x, y))
      before = (x, y)
    }
    var lines = canvas.text.enumerated().map { row, text in
      let isFlat = labels[0] == labels[1]
      let label =
        isFlat ? (row == rows / 2 ? labels[0] : "") : row == 0 ? labels[0] : row == rows - 1 ? labels[1] : ""
      let edge = isUnicode ? (label.isEmpty ? "│" : "┤") : "|"
      return Self.right(label, margin) + " " + edge + text
    }
    // As text, since a damaged file may hold steps that are no Int any more.
    let ends = ["step " + String(format: "%.0f", first.x), String(format: "%.0f", last.x)]
    let space = width - ends[0].count - ends[1].count
    lines.append(
      Self.right("", margin) + " " + (isUnicode ? "└" : "+") + String(repeating: isUnicode ? "─" : "-", count: width))
    lines.append(
      Self.right("", margin + 2) + ends[0] + (span > 0 && space > 0 ? Self.right("", space) + ends[1] : ""))
    return lines.map { line in String(line.reversed().drop { $0 == " " }.reversed()) }
  }

  private static func right(_ text: String, _ width: Int) -> String {
    String(repeating: " ", count: max(width - text.count, 0)) + text
  }
}

/// A grid of dots, two by four to a character in Braille.
private struct Canvas {
  let columns: Int
  let rows: Int
  let isUnicode: Bool
  private var dots: [Bool]

  var width: Int { isUnicode ? 2 * columns : columns }
  var height: Int { isUnicode ? 4 * rows : rows }

  init(columns: Int, rows: Int, isUnicode: Bool) {
    (self.columns, self.rows, self.isUnicode) = (columns, rows, isUnicode)
    dots = Array(repeating: false, count: columns * rows * (isUnicode ? 8 : 1))
  }

  /// Sets the dots of a straight line, both ends included.
  mutating func line(from start: (x: Int, y: Int), to end: (x: Int, y: Int)) {
    let count = max(abs(end.x - start.x), abs(end.y - start.y), 1)
    for index in 0...count {
      let share = Double(index) / Double(count)
      let x = start.x + Int((Double(end.x - start.x) * share).rounded())
      let y = start.y + Int((Double(end.y - start.y) * share).rounded())
      if (0..<width).contains(x), (0..<height).contains(y) { dots[y * width + x] = true }
    }
  }

  var text: [String] {
    (0..<rows).map { row in
      var line = ""
      for column in 0..<columns {
        guard isUnicode else {
          line += dots[row * width + column] ? "*" : " "
          continue
        }
        var bits: UInt32 = 0
        for (bit, place) in Self.places.enumerated()
        where dots[(4 * row + place.y) * width + 2 * column + place.x] { bits |= 1 << UInt32(bit) }
        line += bits == 0 ? " " : Unicode.Scalar(0x2800 + bits).map { String($0) } ?? " "
      }
      return line
    }
  }

  /// Dots of a Braille character in the order of their bits.
  private static let places = [
    (x: 0, y: 0), (x: 0, y: 1), (x: 0, y: 2), (x: 1, y: 0), (x: 1, y: 1), (x: 1, y: 2), (x: 0, y: 3), (x: 1, y: 3),
  ]
}
