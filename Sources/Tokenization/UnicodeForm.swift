internal import CUTF8Proc

/// Unicode normalization forms, by utf8proc (Foundation's differ from the standard on Linux).
enum UnicodeForm: String, Sendable {
  case nfc = "NFC"
  case nfd = "NFD"
  case nfkc = "NFKC"
  case nfkd = "NFKD"

  func callAsFunction(_ text: [UInt8]) -> [UInt8] {
    text.withUnsafeBufferPointer { text in
      if isNormal(text) { return Array(text) }
      // Hugging Face's tables are Unicode 9's: newer characters neither change nor join, so what lies between them
      // stands alone.
      var result: [UInt8] = []
      result.reserveCapacity(text.count + text.count / 4)
      var start = 0
      var index = 0
      while index < text.count {
        let (scalar, length) = text.scalar(at: index)
        if scalar >= 0x80, CharacterClasses.of(scalar).contains(.afterUnicode9) {
          append(text[bytes: start..<index], to: &result)
          result.append(contentsOf: text[index..<index + length])
          start = index + length
        }
        index += length
      }
      append(text[bytes: start..<text.count], to: &result)
      return result
    }
  }

  /// What `utf8proc_map` gives. It brings marks into their order by exchanging neighbours, which for a long run of them takes
  /// hours, so they are sorted here between its two halves.
  private func append(_ text: Bytes, to output: inout [UInt8]) {
    if text.isEmpty { return }
    var scalars: [Int32] = []
    scalars.reserveCapacity(text.count + text.count / 4)
    // The longest decomposition, U+FDFA's, has 18.
    var parts = [Int32](repeating: 0, count: 32)
    var boundary: Int32 = 0
    var index = 0
    while index < text.count {
      let (scalar, length) = text.scalar(at: index)
      index += length
      if scalar < 0x80 {
        scalars.append(Int32(scalar))
        continue
      }
      let count = utf8proc_decompose_char(Int32(scalar), &parts, parts.count, options, &boundary)
      guard (0...parts.count).contains(count) else { return output.append(contentsOf: text) }
      scalars.append(contentsOf: parts[..<count])
    }
    Self.sortMarks(&scalars)
    let count = scalars.count
    // The text is written over the scalars, with a NUL at its end.
    scalars.append(0)
    scalars.withUnsafeMutableBufferPointer { scalars in
      let length = utf8proc_reencode(scalars.baseAddress, count, options)
      guard length >= 0 else { return output.append(contentsOf: text) }
      output.append(contentsOf: UnsafeRawBufferPointer(scalars)[..<length])
    }
  }

  /// Canonical ordering: every run of scalars with a combining class by that class, equals as they were.
  private static func sortMarks(_ scalars: inout [Int32]) {
    func combiningClass(_ scalar: Int32) -> Int16 {
      scalar < 0x300 ? 0 : utf8proc_get_property(scalar).pointee.combining_class
    }
    var start = 0
    while start < scalars.count {
      guard combiningClass(scalars[start]) > 0 else {
        start += 1
        continue
      }
      var end = start
      var marks: [(combiningClass: Int16, scalar: Int32)] = []
      var isSorted = true
      while end < scalars.count {
        let order = combiningClass(scalars[end])
        if order == 0 { break }
        if let last = marks.last, last.combiningClass > order { isSorted = false }
        marks.append((order, scalars[end]))
        end += 1
      }
      if !isSorted {
        // Swift's sort is stable.
        marks.sort { $0.combiningClass < $1.combiningClass }
        for (place, mark) in zip(start..<end, marks) { scalars[place] = mark.scalar }
      }
      start = end
    }
  }

  /// True only for text the form leaves as it is; a quick test that may miss some.
  private func isNormal(_ text: Bytes) -> Bool {
    guard self == .nfc else { return text.allSatisfy { $0 < 0x80 } }
    var index = 0
    while index < text.count {
      if text[index] < 0x80 {
        index += 1
        continue
      }
      let (scalar, length) = text.scalar(at: index)
      switch scalar {
      // Latin, Cyrillic, punctuation, CJK, Hangul syllables, variation selectors, full width, emoji, CJK extension B:
      // composed already, and joining nothing before them.
      case ..<0x300, 0x400...0x482, 0x2002...0x20CF, 0x3000...0x3029, 0x3031...0x3098, 0x309B...0xA4CF, 0xAC00...0xD7A3,
        0xFE00...0xFE0F, 0xFF01...0xFFEF, 0x1F000...0x1FAFF, 0x20000...0x2A6D6:
        index += length
      default: return false
      }
    }
    return true
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
