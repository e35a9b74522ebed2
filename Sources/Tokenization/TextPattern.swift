internal import Foundation

/// What a Split or Replace looks for: a literal, one of the known word patterns (scanned by hand) or any regular
/// expression.
enum TextPattern: Sendable {
  case literal([UInt8])
  case words(WordPattern)
  case regex(RegularExpression)

  /// A regular expression in Oniguruma's syntax, as Hugging Face writes it.
  static func expression(_ pattern: String, file: String, key: String) throws(TokenizerError) -> TextPattern {
    if let known = WordPattern(expression: pattern) { return .words(known) }
    do {
      return .regex(RegularExpression(try NSRegularExpression(pattern: pattern)))
    } catch {
      throw .unsupported(component: "the regular expression \"\(pattern)\"", file: file, key: key)
    }
  }

  /// Matches in `text`, in order, not overlapping; empty matches included.
  func forEachMatch(in text: Bytes, _ body: (Range<Int>) -> Void) {
    switch self {
    case .literal(let literal): Self.forEachOccurrence(of: literal, in: text, body)
    case .words(let pattern): pattern.forEachMatch(in: text, body)
    case .regex(let expression): expression.forEachMatch(in: text, body)
    }
  }

  func replacing(in text: [UInt8], with replacement: [UInt8]) -> [UInt8] {
    text.withUnsafeBufferPointer { text in
      var result: [UInt8] = []
      result.reserveCapacity(text.count)
      var copied = 0
      forEachMatch(in: text) { match in
        result.append(contentsOf: text[copied..<match.lowerBound])
        result.append(contentsOf: replacement)
        copied = match.upperBound
      }
      result.append(contentsOf: text[copied...])
      return result
    }
  }

  private static func forEachOccurrence(of literal: [UInt8], in text: Bytes, _ body: (Range<Int>) -> Void) {
    guard let first = literal.first else { return }
    var index = 0
    while index + literal.count <= text.count {
      if text[index] == first, (1..<literal.count).allSatisfy({ text[index + $0] == literal[$0] }) {
        body(index..<index + literal.count)
        index += literal.count
      } else {
        index += 1
      }
    }
  }
}

/// Foundation's regular expressions (ICU) over UTF-8. Over all code points its classes equal those of Hugging Face's
/// engine.
struct RegularExpression: @unchecked Sendable {  // NSRegularExpression is immutable and thread-safe.
  private let expression: NSRegularExpression

  init(_ expression: NSRegularExpression) { self.expression = expression }

  func forEachMatch(in text: Bytes, _ body: (Range<Int>) -> Void) {
    let string = String(decoding: text, as: UTF8.self)
    // UTF-8 offset of each UTF-16 unit.
    var offsets: [Int32] = []
    offsets.reserveCapacity(text.count + 1)
    var index = 0
    while index < text.count {
      let length = utf8Length(text[index])
      offsets.append(Int32(index))
      if length == 4 { offsets.append(Int32(index)) }
      index += length
    }
    offsets.append(Int32(text.count))
    let all = NSRange(location: 0, length: offsets.count - 1)
    for match in expression.matches(in: string, range: all) {
      body(Int(offsets[match.range.location])..<Int(offsets[match.range.location + match.range.length]))
    }
  }
}
