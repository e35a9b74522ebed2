internal import Foundation
internal import Synchronization

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
      let compiled = try NSRegularExpression(pattern: pattern)
      return .regex(RegularExpression(compiled, pattern: pattern, file: file, key: key))
    } catch {
      throw .unsupported(component: "the regular expression \"\(pattern)\"", file: file, key: key)
    }
  }

  var expression: RegularExpression? { if case .regex(let expression) = self { expression } else { nil } }

  /// Matches in `text`, in order, not overlapping; empty matches included.
  func forEachMatch(in text: Bytes, _ budget: MatchBudget, _ body: (Range<Int>) -> Void) {
    switch self {
    case .literal(let literal): Self.forEachOccurrence(of: literal, in: text, body)
    case .words(let pattern): pattern.forEachMatch(in: text, body)
    case .regex(let expression): expression.forEachMatch(in: text, budget, body)
    }
  }

  func replacing(in text: [UInt8], with replacement: [UInt8], _ budget: MatchBudget) -> [UInt8] {
    text.withUnsafeBufferPointer { text in
      var result: [UInt8] = []
      result.reserveCapacity(text.count)
      var copied = 0
      forEachMatch(in: text, budget) { match in
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

/// The steps that regular expressions may still take on one text, however many words it has: ten million, and 500 for each
/// of its bytes. Real patterns take some ten.
final class MatchBudget {
  /// Of 10,000 steps each.
  fileprivate var reports: Int

  init(bytes: Int) { reports = 1000 + bytes / 20 }
}

/// Foundation's regular expressions (ICU) over UTF-8. Over all code points its classes equal those of Hugging Face's
/// engine.
///
/// An expression can be written so that matching takes longer than anybody would wait. The engine reports every 10,000
/// of its steps; when the budget is used up, matching stops and `requireFastEnough` throws from then on.
final class RegularExpression: @unchecked Sendable {  // NSRegularExpression is immutable and thread-safe.
  private let expression: NSRegularExpression
  private let pattern: String
  private let file: String
  private let key: String
  private let tooSlow = Atomic(false)

  init(_ expression: NSRegularExpression, pattern: String, file: String, key: String) {
    self.expression = expression
    self.pattern = pattern
    self.file = file
    self.key = key
  }

  /// Once matching was given up, ids would be wrong: the tokenizer that uses this expression must not go on.
  func requireFastEnough() throws(TokenizerError) {
    if tooSlow.load(ordering: .relaxed) { throw .tooSlow(pattern: pattern, file: file, key: key) }
  }

  func forEachMatch(in text: Bytes, _ budget: MatchBudget, _ body: (Range<Int>) -> Void) {
    if tooSlow.load(ordering: .relaxed) { return }
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
    var ranges: [NSRange] = []
    expression.enumerateMatches(in: string, options: [.reportProgress], range: all) { match, _, stop in
      if let range = match?.range {
        ranges.append(range)
      } else {
        budget.reports -= 1
        if budget.reports < 0 {
          self.tooSlow.store(true, ordering: .relaxed)
          stop.pointee = true
        }
      }
    }
    for range in ranges { body(Int(offsets[range.location])..<Int(offsets[range.location + range.length])) }
  }
}
