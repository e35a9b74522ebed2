import CUTF8Proc
import Foundation
import JSON
import Testing
import Tokenization

/// Normalization beside utf8proc's own.
@Suite struct UnicodeFormTests {
  static let forms: [(name: String, flags: UInt32)] = [
    ("NFC", UTF8PROC_COMPOSE.rawValue), ("NFD", UTF8PROC_DECOMPOSE.rawValue),
    ("NFKC", UTF8PROC_COMPOSE.rawValue | UTF8PROC_COMPAT.rawValue),
    ("NFKD", UTF8PROC_DECOMPOSE.rawValue | UTF8PROC_COMPAT.rawValue),
  ]

  /// The built-in byte vocabulary behind a normalizer: encoding and decoding shows the normalized text.
  private static func tokenizer(_ form: String) throws -> Tokenizer {
    let file = try #require(try Tokenizer.bytes().files().first { $0.name == "tokenizer.json" })
    var document = try #require(try JSONValue(parsing: file.bytes).object)
    document["normalizer"] = ["type": .string(form)]
    return try Golden.tokenizer(.object(document))
  }

  private static func plain(_ text: String, _ flags: UInt32) throws -> [UInt8] {
    let bytes = Array(text.utf8)
    var result: UnsafeMutablePointer<UInt8>?
    let options = utf8proc_option_t(flags | UTF8PROC_STABLE.rawValue)
    let count = utf8proc_map(bytes, bytes.count, &result, options)
    let start = try #require(result)
    defer { free(start) }
    return Array(UnsafeBufferPointer(start: start, count: count))
  }

  @Test(arguments: forms) func marksAreOrderedAsUTF8ProcOrdersThem(_ form: (name: String, flags: UInt32)) throws {
    let tokenizer = try Self.tokenizer(form.name)
    // Bases that compose, marks of many classes, characters without a class that decompose into marks, long decompositions.
    let pool: [Unicode.Scalar] = [
      "a", "e", "A", " ", "\u{E9}", "\u{1EC7}", "\u{300}", "\u{301}", "\u{316}", "\u{323}", "\u{327}", "\u{334}",
      "\u{344}",
      "\u{345}", "\u{5B0}", "\u{5BC}", "\u{64B}", "\u{651}", "\u{F71}", "\u{F72}", "\u{F73}", "\u{F81}", "\u{3099}",
      "\u{FF9E}", "\u{FF76}", "\u{FDFA}", "\u{FC5E}", "\u{AC00}", "\u{1100}", "\u{1161}", "\u{11A8}", "\u{1D15E}",
    ]
    var random = SystemRandomNumberGenerator()
    for _ in 0..<3000 {
      var text = String.UnicodeScalarView()
      for _ in 0..<Int.random(in: 1...24, using: &random) { text.append(pool.randomElement(using: &random) ?? "a") }
      let shown = text.map { String($0.value, radix: 16) }.joined(separator: " ")
      let expected = try Self.plain(String(text), form.flags)
      #expect(Array(tokenizer.decode(try tokenizer.encode(String(text))).utf8) == expected, "\(form.name) \(shown)")
    }
  }

  /// Exchanging neighbours takes hours here.
  @Test func manyMarksAreSorted() throws {
    let count = 1_000_000
    let tokenizer = try Self.tokenizer("NFD")
    let (above, below) = (String(repeating: "\u{301}", count: count), String(repeating: "\u{316}", count: count))
    let found = tokenizer.decode(try tokenizer.encode("a" + above + below))
    #expect(Array(found.utf8) == Array("a".utf8) + Array(below.utf8) + Array(above.utf8))
  }
}
