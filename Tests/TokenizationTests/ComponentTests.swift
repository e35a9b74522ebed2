import Foundation
import JSON
import Testing
import Tokenization

/// Every component of tokenizer.json with every option, on one small model (Golden/components.json).
@Suite struct ComponentTests {
  private static let goldens = try? Golden.read(Golden.folder + "/components.json")

  static let names = goldens?["cases"]?.object?.members.map(\.key) ?? []

  @Test func casesAreThere() { #expect(Self.names.count > 60) }

  @Test(arguments: names)
  func componentEqualsHuggingFace(_ name: String) throws {
    let goldens = try #require(Self.goldens)
    let golden = try #require(goldens["cases"]?[name])
    let tokenizer = try Golden.tokenizer(Self.document(try #require(goldens["model"]), golden))
    let texts = try #require(goldens["texts"]?.array)
    for (index, text) in texts.enumerated() {
      let text = try #require(text.string)
      let ids = try #require(Golden.ids(golden["ids"]?.array?[index]))
      let special = Golden.ids(golden["special"]?.array?[index]) ?? ids
      #expect(try tokenizer.encode(text) == ids, "\(text.debugDescription)")
      #expect(try tokenizer.encode(text, addSpecialTokens: true) == special, "\(text.debugDescription)")
      if let decoded = golden["decoded"]?.array?[index].string {
        #expect(Array(tokenizer.decode(ids).utf8) == Array(decoded.utf8), "\(text.debugDescription)")
      }
      if let skipped = golden["skipped"]?.array?[index].string {
        #expect(
          Array(tokenizer.decode(special, skipSpecialTokens: true).utf8) == Array(skipped.utf8),
          "\(text.debugDescription)")
      }
    }
  }

  /// The shared model with a case's changes.
  private static func document(_ shared: JSONValue, _ golden: JSONValue) throws -> JSONValue {
    var document = try #require(golden["document"]?.object)
    var model = try #require(shared.object)
    for (key, value) in document["model"]?.object?.members ?? [] { model[key] = value }
    var vocabulary = try #require(model["vocab"]?.object)
    for token in golden["vocab"]?.array ?? [] {
      let token = try #require(token.string)
      if vocabulary[token] == nil { vocabulary[token] = .integer(vocabulary.members.count) }
    }
    model["vocab"] = .object(vocabulary)
    model["merges"] = .array((model["merges"]?.array ?? []) + (golden["merges"]?.array ?? []))
    document["model"] = .object(model)
    return .object(document)
  }

  private static let tiny: JSONValue = ["type": "BPE", "vocab": ["a": 0, "b": 1, "ab": 2], "merges": ["a b"]]

  /// A component that is not implemented is an error that names it and where it is.
  @Test(arguments: [
    (
      #"{"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Precompiled"}]}}"#,
      "normalizer.normalizers[1]", "Precompiled"
    ),
    (#"{"normalizer": {"type": "BertNormalizer"}}"#, "normalizer", "BertNormalizer"),
    (#"{"pre_tokenizer": {"type": "UnicodeScripts"}}"#, "pre_tokenizer", "UnicodeScripts"),
    (
      #"{"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(?<"}, "behavior": "Isolated"}}"#,
      "pre_tokenizer.pattern", "(?<"
    ),
    (#"{"post_processor": {"type": "Other"}}"#, "post_processor", "Other"),
    (#"{"decoder": {"type": "WordPiece"}}"#, "decoder", "WordPiece"),
    (#"{"model": {"type": "Unigram", "vocab": []}}"#, "model", "Unigram"),
    (#"{"model": {"type": "BPE", "dropout": 0.1, "vocab": {}, "merges": []}}"#, "model", "dropout 0.1"),
  ])
  func unknownComponentIsNamed(_ json: String, key: String, component: String) throws {
    let document = try Self.with(json)
    #expect {
      try Golden.tokenizer(document)
    } throws: { error in
      guard case TokenizerError.unsupported(let named, let file, let at) = error else { return false }
      return named.contains(component) && at == key && file.hasSuffix("tokenizer.json")
    }
  }

  /// What is malformed is an error that names the key.
  @Test(arguments: [
    (#"{"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}}"#, "model.vocab"),
    (#"{"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": ["a b"]}}"#, "model.merges[0]"),
    (#"{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a  b"]}}"#, "model.merges[0]"),
    (#"{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": 3}}"#, "model.merges"),
    (#"{"model": null}"#, "model"),
    (#"{"added_tokens": [{"id": "x", "content": "y"}]}"#, "tokenizer.added_tokens[0].id"),
    (#"{"pre_tokenizer": {"type": "Split", "behavior": "Isolated"}}"#, "pre_tokenizer.pattern"),
    (#"{"pre_tokenizer": {"type": "Metaspace", "prepend_scheme": "last"}}"#, "pre_tokenizer.prepend_scheme"),
    (
      #"{"post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "q"}}], "special_tokens": {}}}"#,
      "post_processor.single[0].SpecialToken.id"
    ),
  ])
  func malformedPartIsNamed(_ json: String, key: String) throws {
    let document = try Self.with(json)
    #expect {
      try Golden.tokenizer(document)
    } throws: { error in
      guard case TokenizerError.malformed(_, let at, _) = error else { return false }
      return at == key
    }
  }

  @Test func missingUnknownTokenIsAnError() throws {
    let tokenizer = try Golden.tokenizer(
      Self.with(#"{"model": {"type": "BPE", "unk_token": "<unk>", "vocab": {"a": 0}, "merges": []}}"#))
    #expect(try tokenizer.encode("a") == [0])
    #expect(throws: TokenizerError.unknownToken(piece: "z")) { try tokenizer.encode("az") }
  }

  @Test func missingFolderIsNamed() {
    #expect {
      try Tokenizer(directory: "/nowhere/model")
    } throws: { "\($0)".contains("/nowhere/model/tokenizer.json") }
  }

  private static func with(_ json: String) throws -> JSONValue {
    var document = JSONObject([("model", tiny)])
    for (key, value) in try JSONValue(parsing: json).object?.members ?? [] { document[key] = value }
    return .object(document)
  }
}
