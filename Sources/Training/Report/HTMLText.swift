/// Text that may stand in an HTML page as it is. Anything else has to go through `init(_:)`, which escapes it.
struct HTML: ExpressibleByStringInterpolation {
  private(set) var markup: String

  init(_ text: String) {
    var escaped = ""
    escaped.reserveCapacity(text.utf8.count)
    for scalar in text.unicodeScalars {
      switch scalar {
      case "&": escaped += "&amp;"
      case "<": escaped += "&lt;"
      case ">": escaped += "&gt;"
      case "\"": escaped += "&quot;"
      case "'": escaped += "&#39;"
      case "\u{00}"..."\u{08}", "\u{0B}"..."\u{1F}", "\u{7F}"..."\u{9F}", "\u{FFFE}", "\u{FFFF}": escaped += "\u{FFFD}"
      default: escaped.unicodeScalars.append(scalar)
      }
    }
    markup = escaped
  }

  /// A literal is markup; what is interpolated into it is escaped, unless it is markup itself.
  struct StringInterpolation: StringInterpolationProtocol {
    fileprivate var markup = ""
    init(literalCapacity: Int, interpolationCount: Int) {}
    mutating func appendLiteral(_ literal: String) { markup += literal }
    mutating func appendInterpolation(_ text: String) { markup += HTML(text).markup }
    mutating func appendInterpolation(_ number: Int) { markup += "\(number)" }
    mutating func appendInterpolation(_ part: HTML) { markup += part.markup }
  }

  init(stringLiteral value: String) { markup = value }
  init(stringInterpolation: StringInterpolation) { markup = stringInterpolation.markup }

  static func + (a: HTML, b: HTML) -> HTML {
    var sum = a
    sum.markup += b.markup
    return sum
  }

  static func += (a: inout HTML, b: HTML) { a.markup += b.markup }
}

extension [HTML] {
  var concatenated: HTML { reduce(into: "") { $0 += $1 } }
}

extension HTML {
  /// - Parameter numbers: columns from this one on are aligned to the right.
  static func table(head: [String], rows: [[String]], numbers: Int) -> HTML {
    func cells(_ row: [String], _ tag: HTML) -> HTML {
      row.enumerated().map { column, text in
        let style: HTML = column >= numbers ? " class=\"n\"" : ""
        return "<\(tag)\(style)>\(text)</\(tag)>"
      }.concatenated
    }
    let body = rows.map { row -> HTML in "<tr>\(cells(row, "td"))</tr>\n" }.concatenated
    return """
      <div class="wide"><table><thead><tr>\(cells(head, "th"))</tr></thead>
      <tbody>
      \(body)</tbody></table></div>

      """
  }
}
