/// The word-splitting regular expressions of the GPT-2 and Llama 3 families, matched by hand: they cover all text, so
/// every match starts where the one before ended. Foundation's engine gives the same pieces several times slower.
enum WordPattern: Sendable, Equatable {
  /// `'s|'t|...| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
  case gpt2
  /// `(?i:'s|...)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,digits}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
  case llama3(digits: Int)

  static let gpt2Expression = #"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"#

  static func llama3Expression(digits: Int) -> String {
    let numbers = digits == 1 ? #"\p{N}"# : #"\p{N}{1,3}"#
    return #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"# + numbers
      + #"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
  }

  /// Nil for any other expression.
  init?(expression: String) {
    switch expression {
    case Self.gpt2Expression: self = .gpt2
    case Self.llama3Expression(digits: 3): self = .llama3(digits: 3)
    case Self.llama3Expression(digits: 1): self = .llama3(digits: 1)
    default: return nil
    }
  }

  func forEachMatch(in text: Bytes, _ body: (Range<Int>) -> Void) {
    var start = 0
    while start < text.count {
      let end =
        switch self {
        case .gpt2: Self.gpt2End(text, start)
        case .llama3(let digits): Self.llama3End(text, start, digits: digits)
        }
      body(start..<end)
      start = end
    }
  }

  private static func gpt2End(_ text: Bytes, _ start: Int) -> Int {
    if text[start] == UInt8(ascii: "'"), let end = contraction(text, start, anyCase: false) { return end }
    // An optional space, then one run of letters, of numbers or of anything else that is not a space.
    let body = text[start] == UInt8(ascii: " ") ? start + 1 : start
    if body < text.count {
      let (scalar, length) = text.scalar(at: body)
      let kind = kind(scalar)
      if kind != .whitespace { return runEnd(text, body + length, kind) }
    }
    return whitespaceEnd(text, start)
  }

  private static func llama3End(_ text: Bytes, _ start: Int, digits: Int) -> Int {
    if text[start] == UInt8(ascii: "'"), let end = contraction(text, start, anyCase: true) { return end }
    let (scalar, length) = text.scalar(at: start)
    let first = kind(scalar)
    let second = start + length
    switch first {
    case .letter: return runEnd(text, second, .letter)
    case .number:
      var end = second
      for _ in 1..<max(digits, 1) {
        guard end < text.count else { break }
        let (scalar, length) = text.scalar(at: end)
        guard kind(scalar) == .number else { break }
        end += length
      }
      return end
    case .whitespace, .other:
      let newline = scalar == 0x0A || scalar == 0x0D
      if !newline, second < text.count {
        let (next, nextLength) = text.scalar(at: second)
        let nextKind = kind(next)
        if nextKind == .letter { return runEnd(text, second + nextLength, .letter) }
        if scalar == 0x20, nextKind == .other { return newlinesEnd(text, runEnd(text, second + nextLength, .other)) }
      }
      if first == .other { return newlinesEnd(text, runEnd(text, second, .other)) }
      return whitespaceEnd(text, start, stopAfterNewlines: true)
    }
  }

  private enum Kind { case letter, number, whitespace, other }

  @inline(__always)
  private static func kind(_ scalar: UInt32) -> Kind {
    let classes = CharacterClasses.of(scalar)
    if classes.contains(.letter) { return .letter }
    if classes.contains(.whitespace) { return .whitespace }
    return classes.contains(.number) ? .number : .other
  }

  @inline(__always)
  private static func runEnd(_ text: Bytes, _ start: Int, _ wanted: Kind) -> Int {
    var end = start
    while end < text.count {
      let (scalar, length) = text.scalar(at: end)
      guard kind(scalar) == wanted else { break }
      end += length
    }
    return end
  }

  private static func newlinesEnd(_ text: Bytes, _ start: Int) -> Int {
    var end = start
    while end < text.count, text[end] == 0x0A || text[end] == 0x0D { end += 1 }
    return end
  }

  /// `\s+(?!\S)|\s+`: the run without its last character when a word follows, unless that is all there is. With
  /// `stopAfterNewlines`, `\s*[\r\n]+` goes first: up to the last line end in the run.
  private static func whitespaceEnd(_ text: Bytes, _ start: Int, stopAfterNewlines: Bool = false) -> Int {
    var end = start
    var last = start
    var afterNewline: Int?
    while end < text.count {
      let (scalar, length) = text.scalar(at: end)
      guard kind(scalar) == .whitespace else { break }
      last = end
      end += length
      if scalar == 0x0A || scalar == 0x0D { afterNewline = end }
    }
    if stopAfterNewlines, let afterNewline { return afterNewline }
    return end == text.count || last == start ? end : last
  }

  private static func contraction(_ text: Bytes, _ start: Int, anyCase: Bool) -> Int? {
    func letter(_ index: Int) -> UInt8 {
      guard index < text.count else { return 0 }
      return anyCase && (0x41...0x5A).contains(text[index]) ? text[index] | 0x20 : text[index]
    }
    switch (letter(start + 1), letter(start + 2)) {
    case (UInt8(ascii: "s"), _), (UInt8(ascii: "t"), _), (UInt8(ascii: "m"), _), (UInt8(ascii: "d"), _):
      return start + 2
    case (UInt8(ascii: "r"), UInt8(ascii: "e")), (UInt8(ascii: "v"), UInt8(ascii: "e")),
      (UInt8(ascii: "l"), UInt8(ascii: "l")):
      return start + 3
    // The long s folds to s.
    case (0xC5, 0xBF) where anyCase: return start + 3
    default: return nil
    }
  }
}
