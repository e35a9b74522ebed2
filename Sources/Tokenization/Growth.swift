// How many times as long a text can become by one step, at most. Steps multiply, also where they are applied to a piece of a
// single byte, so what comes before or after a text counts as often as the text.

extension TextPattern {
  /// By putting `replacement` for every match.
  func growth(replacing replacement: [UInt8]) -> Double {
    switch self {
    case .literal(let literal): max(1, Double(replacement.count) / Double(max(1, literal.count)))
    // Matches may be empty.
    case .words, .regex: 1 + Double(replacement.count)
    }
  }
}

extension UnicodeForm {
  /// Unicode Standard Annex 15 on UTF-8: U+FDFA has 3 bytes, its compatibility decomposition 33.
  var growth: Double {
    switch self {
    case .nfc, .nfd: 3
    case .nfkc, .nfkd: 11
    }
  }
}

extension Normalizer {
  var growth: Double {
    switch self {
    case .sequence(let steps): steps.reduce(1) { $0 * $1.growth }
    case .unicode(let form): form.growth
    case .prepend(let prefix): 1 + Double(prefix.count)
    case .replace(let pattern, let replacement): pattern.growth(replacing: replacement)
    case .lowercase: 1.5
    case .byteLevel: 2
    case .strip, .stripAccents: 1
    }
  }
}

extension PreTokenizer {
  var growth: Double {
    switch self {
    case .byteLevel(let addPrefixSpace, _): addPrefixSpace ? 4 : 2
    case .metaspace(let replacement, let prepend, _):
      max(1, Double(replacement.count)) * (prepend == .never ? 1 : 1 + Double(replacement.count))
    case .split, .digits, .whitespace, .whitespaceSplit, .punctuation: 1
    }
  }
}

extension TokenDecoder {
  var growth: Double {
    switch self {
    // A byte that is not UTF-8 becomes U+FFFD.
    case .byteLevel: 3
    case .replace(let pattern, let replacement): pattern.growth(replacing: replacement)
    case .byteFallback, .fuse, .strip, .metaspace: 1
    }
  }
}
