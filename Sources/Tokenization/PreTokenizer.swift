/// Steps that split text into words (`pre_tokenizer` in tokenizer.json). Sequences are flattened into a list of these.
enum PreTokenizer: Sendable {
  case byteLevel(addPrefixSpace: Bool, useRegex: Bool)
  case split(TextPattern, SplitBehavior, invert: Bool)
  case digits(individual: Bool)
  case metaspace(replacement: [UInt8], prepend: PrependScheme, split: Bool)
  case whitespace
  case whitespaceSplit
  case punctuation(SplitBehavior)

  enum PrependScheme: String, Sendable { case always, never, first }
}

/// What happens to the text that matches a split pattern.
enum SplitBehavior: String, Sendable {
  case removed = "Removed"
  case isolated = "Isolated"
  case mergedWithPrevious = "MergedWithPrevious"
  case mergedWithNext = "MergedWithNext"
  case contiguous = "Contiguous"
}

/// Text cut into words: `words` are ranges of `bytes`.
struct Words {
  var bytes: [UInt8]
  var words: [Range<Int>]
  /// Whether the first word is the beginning of the text given to the tokenizer (Metaspace's `first`).
  var startsText: Bool
}

extension PreTokenizer {
  var expression: RegularExpression? {
    if case .split(let pattern, _, _) = self { pattern.expression } else { nil }
  }

  /// - Parameter keepRawBytes: leave out ByteLevel's mapping to its alphabet; the model then takes raw bytes.
  func callAsFunction(_ input: inout Words, keepRawBytes: Bool, _ budget: MatchBudget) {
    switch self {
    case .byteLevel(let addPrefixSpace, let useRegex):
      if addPrefixSpace { input.prepend([0x20]) { _, word in word.first != 0x20 } }
      if useRegex { input.split { WordPattern.gpt2.forEachMatch(in: $0, $1) } }
      if !keepRawBytes { input.rewrite { ByteAlphabet.encode($0) } }
    case .split(let pattern, let behavior, let invert):
      switch (pattern, behavior, invert) {
      // These cover all text: every match is a word.
      case (.words(let pattern), .isolated, false): input.split { pattern.forEachMatch(in: $0, $1) }
      default: input.split({ pattern.forEachMatch(in: $0, budget, $1) }, behavior, invert: invert)
      }
    case .digits(let individual):
      input.split(Self.matches(of: .numeric), individual ? .isolated : .contiguous, invert: false)
    case .metaspace(let replacement, let prepend, let split):
      let space = TextPattern.literal([0x20])
      input.rewrite { space.replacing(in: Array($0), with: replacement, budget) }
      let startsText = input.startsText
      input.prepend(replacement) { index, word in
        !word.starts(with: replacement) && (prepend == .always || prepend == .first && startsText && index == 0)
      }
      let mark = TextPattern.literal(replacement)
      if split { input.split({ mark.forEachMatch(in: $0, budget, $1) }, .mergedWithNext, invert: false) }
    case .whitespace:
      input.split(Self.forEachWordOrSymbolRun, .removed, invert: true)
    case .whitespaceSplit: input.split(Self.matches(of: .whitespace), .removed, invert: false)
    case .punctuation(let behavior): input.split(Self.forEachPunctuation, behavior, invert: false)
    }
  }

  /// Each character of a class is one match.
  private static func matches(of wanted: CharacterClasses) -> (Bytes, (Range<Int>) -> Void) -> Void {
    { text, body in
      var index = 0
      while index < text.count {
        let (scalar, length) = text.scalar(at: index)
        if CharacterClasses.of(scalar).contains(wanted) { body(index..<index + length) }
        index += length
      }
    }
  }

  /// `\w+|[^\w\s]+`
  private static func forEachWordOrSymbolRun(in text: Bytes, _ body: (Range<Int>) -> Void) {
    var index = 0
    while index < text.count {
      let start = index
      let classes = CharacterClasses.of(text.scalar(at: index).value)
      let kind = classes.intersection([.word, .whitespace])
      while index < text.count {
        let (scalar, length) = text.scalar(at: index)
        guard CharacterClasses.of(scalar).intersection([.word, .whitespace]) == kind else { break }
        index += length
      }
      if !kind.contains(.whitespace) { body(start..<index) }
    }
  }

  private static func forEachPunctuation(in text: Bytes, _ body: (Range<Int>) -> Void) {
    var index = 0
    while index < text.count {
      let (value, length) = text.scalar(at: index)
      if let scalar = Unicode.Scalar(value), scalar.isPunctuation { body(index..<index + length) }
      index += length
    }
  }
}

extension Unicode.Scalar {
  /// ASCII symbols and general category P, as the Punctuation pre-tokenizer counts them (its tables are Unicode 8's).
  fileprivate var isPunctuation: Bool {
    switch value {
    case 0x21...0x2F, 0x3A...0x40, 0x5B...0x60, 0x7B...0x7E: return true
    case 0..<0x80: return false
    default: break
    }
    switch properties.generalCategory {
    case .connectorPunctuation, .dashPunctuation, .openPunctuation, .closePunctuation, .initialPunctuation,
      .finalPunctuation,
      .otherPunctuation:
      guard let age = properties.age else { return false }
      return age.major <= 8
    default: return false
    }
  }
}
