/// Text for people that quotes files: what a terminal would obey is shown, not sent.
package enum PlainText {
  /// Characters of a line that are shown; a line that quotes a hostile file could have millions.
  package static let longestLine = 4000

  /// `text` with control characters and those that change the direction of writing as `\\u{1B}`, line ends and tabs as
  /// they are.
  package static func printable(_ text: String) -> String {
    guard text.unicodeScalars.contains(where: isHarmful) else { return text }
    var result = ""
    for scalar in text.unicodeScalars {
      if isHarmful(scalar) {
        result += "\\u{" + String(scalar.value, radix: 16, uppercase: true) + "}"
      } else {
        result.unicodeScalars.append(scalar)
      }
    }
    return result
  }

  /// As `printable`, with over-long lines cut.
  package static func message(_ text: String) -> String {
    let text = printable(text)
    guard text.utf8.count > longestLine else { return text }
    return text.split(separator: "\n", omittingEmptySubsequences: false).map { line in
      guard line.utf8.count > longestLine, line.count > longestLine else { return String(line) }
      return line.prefix(longestLine) + " ... (\(line.count) characters)"
    }.joined(separator: "\n")
  }

  private static func isHarmful(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.value {
    case 0x09, 0x0A: false
    // C0 controls, DEL and C1; line and paragraph separators; overrides of the direction of writing.
    case 0..<0x20, 0x7F..<0xA0, 0x2028, 0x2029, 0x202A...0x202E, 0x2066...0x2069: true
    default: false
    }
  }
}
