import Foundation
import JSON
import Testing
import Tokenization

/// The golden files beside these tests, written by Golden/generate.py.
enum Golden {
  static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("Golden").path

  static func read(_ path: String) throws -> JSONValue {
    try JSONValue(parsing: Array(try Data(contentsOf: URL(fileURLWithPath: path))))
  }

  static func ids(_ value: JSONValue?) -> [Int32]? {
    value?.array?.compactMap { $0.integer.flatMap { Int32(exactly: $0) } }
  }

  static func subfolders(of folder: String) -> [String] {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
    return names.filter { FileManager.default.fileExists(atPath: "\(folder)/\($0)/tokenizer.json") }.sorted()
  }

  /// Calls `body` with a new folder that holds `files`.
  static func withFolder<Result>(_ files: [(name: String, bytes: [UInt8])], _ body: (String) throws -> Result) throws
    -> Result
  {
    let folder = NSTemporaryDirectory() + "tokenization-" + UUID().uuidString
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    for file in files { try Data(file.bytes).write(to: URL(fileURLWithPath: folder + "/" + file.name)) }
    return try body(folder)
  }

  /// A tokenizer of one tokenizer.json.
  static func tokenizer(_ document: JSONValue) throws -> Tokenizer {
    try withFolder([("tokenizer.json", Array(document.serialized().utf8))]) { try Tokenizer(directory: $0) }
  }

  /// Compares a tokenizer with a golden.json; byte by byte, since Swift's `==` takes composed and decomposed accents
  /// for equal.
  static func check(_ tokenizer: Tokenizer, against path: String) throws {
    let rows = try #require(try read(path).array)
    #expect(!rows.isEmpty)
    for row in rows {
      let text = try #require(row["text"]?.string)
      let ids = try #require(Self.ids(row["ids"]))
      let special = try #require(Self.ids(row["ids_special"]))
      #expect(try tokenizer.encode(text) == ids, "\(text.debugDescription)")
      #expect(try tokenizer.encode(text, addSpecialTokens: true) == special, "\(text.debugDescription)")
      #expect(
        Array(tokenizer.decode(ids).utf8) == row["decoded"]?.string.map { Array($0.utf8) }, "\(text.debugDescription)")
      let skipped = tokenizer.decode(special, skipSpecialTokens: true)
      #expect(
        Array(skipped.utf8) == row["decoded_special_skipped"]?.string.map { Array($0.utf8) }, "\(text.debugDescription)"
      )
      var stream = tokenizer.makeStreamDecoder()
      let streamed = special.map { stream.append($0) }.joined() + stream.finish()
      #expect(Array(streamed.utf8) == Array(skipped.utf8), "streamed: \(text.debugDescription)")
    }
  }
}
