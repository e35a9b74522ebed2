internal import CUTF8Proc

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

  func callAsFunction(_ text: [UInt8]) -> [UInt8] {
    if text.isEmpty { return text }
    switch self {
    case .sequence(let steps): return steps.reduce(text) { $1($0) }
    case .unicode(let form): return form(text)
    case .prepend(let prefix): return prefix + text
    case .replace(let pattern, let replacement): return pattern.replacing(in: text, with: replacement)
    case .lowercase: return Self.mapScalars(text) { $0.properties.lowercaseMapping }
    case .strip(let left, let right): return Self.strip(text, left: left, right: right)
    case .stripAccents:
      return Self.mapScalars(text) { CharacterClasses.of($0.value).contains(.mark) ? "" : String($0) }
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

/// Unicode normalization forms, by utf8proc (Foundation's differ from the standard on Linux).
enum UnicodeForm: String, Sendable {
  case nfc = "NFC"
  case nfd = "NFD"
  case nfkc = "NFKC"
  case nfkd = "NFKD"

  func callAsFunction(_ text: [UInt8]) -> [UInt8] {
    // Below U+0300 nothing composes and below U+00A0 nothing decomposes.
    let unchanged: UInt8 = self == .nfc ? 0xCC : 0x80
    if text.allSatisfy({ $0 < unchanged }) { return text }
    var result: UnsafeMutablePointer<UInt8>?
    let count = utf8proc_map(text, text.count, &result, options)
    guard count >= 0, let result else { return text }
    defer { free(result) }
    return Array(UnsafeBufferPointer(start: result, count: count))
  }

  private var options: utf8proc_option_t {
    let flags =
      switch self {
      case .nfc: UTF8PROC_COMPOSE.rawValue
      case .nfd: UTF8PROC_DECOMPOSE.rawValue
      case .nfkc: UTF8PROC_COMPOSE.rawValue | UTF8PROC_COMPAT.rawValue
      case .nfkd: UTF8PROC_DECOMPOSE.rawValue | UTF8PROC_COMPAT.rawValue
      }
    return utf8proc_option_t(flags | UTF8PROC_STABLE.rawValue)
  }
}
