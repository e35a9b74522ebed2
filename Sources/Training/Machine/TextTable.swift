/// Columns of text for a terminal, aligned by spaces.
struct TextTable {
  var rows: [[String]]
  /// Columns from this one on are aligned to the right, as numbers are.
  var rightFrom: Int

  /// The lines, two spaces between columns, without spaces at the end.
  var text: String {
    let columns = rows.map(\.count).max() ?? 0
    let widths = (0..<columns).map { column in rows.map { column < $0.count ? $0[column].count : 0 }.max() ?? 0 }
    return rows.map { row in
      let line = row.enumerated().map { column, text in
        let space = String(repeating: " ", count: widths[column] - text.count)
        return column >= rightFrom ? space + text : text + space
      }.joined(separator: "  ")
      return String(line.reversed().drop { $0 == " " }.reversed())
    }.joined(separator: "\n")
  }
}
