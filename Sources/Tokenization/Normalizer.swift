/// Steps that rewrite text before it is split (`normalizer` in tokenizer.json), on UTF-8.
indirect enum Normalizer: Sendable {
  case sequence([Normalizer])
  case unicode(UnicodeForm)
  case prepend([UInt8])
  case replace(TextPattern, with: [UInt8])
  case lowercase
  case strip(left: Bool, right: Bool)
  case stripAccents
  case byteLevel

  /// What is searched for, in all steps.
  var patterns: [TextPattern] {
    switch self {
    case .sequence(let steps): steps.flatMap(\.patterns)
    case .replace(let pattern, _): [pattern]
    default: []
    }
  }

  func callAsFunction(_ text: [UInt8], _ budget: MatchBudget) -> [UInt8] {
    if text.isEmpty { return text }
    switch self {
    case .sequence(let steps): return steps.reduce(text) { $1($0, budget) }
    case .unicode(let form): return form(text)
    case .prepend(let prefix): return prefix + text
    case .replace(let pattern, let replacement): return pattern.replacing(in: text, with: replacement, budget)
    case .lowercase: return Self.mapScalars(text) { $0.properties.lowercaseMapping }
    case .strip(let left, let right): return Self.strip(text, left: left, right: right)
    case .stripAccents:
      return Self.mapScalars(text) { scalar in
        let classes = CharacterClasses.of(scalar.value)
        return classes.contains(.mark) && !classes.contains(.afterUnicode9) ? "" : String(scalar)
      }
    case .byteLevel: return ByteAlphabet.encode(text)
    }
  }

  private static func mapScalars(_ text: [UInt8], _ map: (Unicode.Scalar) -> String) -> [UInt8] {
    var result: [UInt8] = []
    result.reserveCapacity(text.count)
    for scalar in String(decoding: text, as: UTF8.self).unicodeScalars { result.append(contentsOf: map(scalar).utf8) }
    return result
  }

  private static func strip(_ text: [UInt8], left: Bool, right: Bool) -> [UInt8] {
    text.withUnsafeBufferPointer { text in
      let start = left ? spacesEnd(in: text, from: 0) : 0
      let end = right ? spacesStart(in: text, before: text.count) : text.count
      return start < end ? Array(text[start..<end]) : []
    }
  }
}

/// The end of the whitespace that starts at `index`.
func spacesEnd(in text: Bytes, from index: Int) -> Int {
  var end = index
  while end < text.count {
    let (scalar, length) = text.scalar(at: end)
    guard CharacterClasses.of(scalar).contains(.whitespace) else { break }
    end += length
  }
  return end
}

/// The start of the whitespace that ends before `index`.
func spacesStart(in text: Bytes, before index: Int) -> Int {
  var start = index
  while start > 0 {
    let previous = text.scalarStart(before: start)
    guard CharacterClasses.of(text.scalar(at: previous).value).contains(.whitespace) else { break }
    start = previous
  }
  return start
}
