/// Character classes as the engines behind Hugging Face `tokenizers` 0.23 see them.
///
/// Its regular expressions know Unicode 16, Rust's `char` methods Unicode 17 and its normalizers Unicode 9; measured
/// over all code points. Swift's tables are at least as new, so a character's age decides.
struct CharacterClasses: OptionSet {
  let rawValue: UInt8
  init(rawValue: UInt8) { self.rawValue = rawValue }

  /// `\p{L}`
  static let letter = CharacterClasses(rawValue: 1)
  /// `\p{N}`
  static let number = CharacterClasses(rawValue: 2)
  /// `\s`, also Rust's `is_whitespace`
  static let whitespace = CharacterClasses(rawValue: 4)
  /// Rust's `is_numeric`: `\p{N}` of the newest Unicode
  static let numeric = CharacterClasses(rawValue: 8)
  /// `\w`
  static let word = CharacterClasses(rawValue: 16)
  /// General category M
  static let mark = CharacterClasses(rawValue: 32)
  /// Added after Unicode 9: the normalizers leave such characters alone
  static let afterUnicode9 = CharacterClasses(rawValue: 64)

  @inline(__always)
  static func of(_ scalar: UInt32) -> CharacterClasses {
    if scalar < UInt32(limit) { return CharacterClasses(rawValue: table[Int(scalar)]) }
    return (0xE0100...0xE01EF).contains(scalar) ? [.word, .mark] : []
  }

  /// No character at or above this value has a class, variation selectors apart.
  private static let limit = 0x34000

  private static let table: [UInt8] = (0..<limit).map { value in
    Unicode.Scalar(UInt32(value)).map { classify($0).rawValue } ?? 0
  }

  private static func classify(_ scalar: Unicode.Scalar) -> CharacterClasses {
    let properties = scalar.properties
    var classes: CharacterClasses = []
    switch properties.generalCategory {
    case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter:
      classes = [.letter, .word]
    case .decimalNumber: classes = [.number, .numeric, .word]
    case .letterNumber, .otherNumber: classes = [.number, .numeric]
    case .nonspacingMark, .spacingMark, .enclosingMark: classes = [.mark, .word]
    case .connectorPunctuation: classes = [.word]
    default: break
    }
    if properties.isAlphabetic || properties.isJoinControl { classes.insert(.word) }
    if properties.isWhitespace { classes.insert(.whitespace) }
    guard let age = properties.age else { return classes }
    if age.major > 16 { classes.subtract([.letter, .number, .word]) }
    if age.major > 9 { classes.insert(.afterUnicode9) }
    return classes
  }
}
