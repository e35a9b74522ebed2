import Foundation
import JSON
import Testing
import Tokenization

/// tokenizer.json files that ask for too much: each is an error that names the key, and none takes the process down.
@Suite struct HostileTokenizerTests {
  private static let model: JSONValue = ["type": "BPE", "vocab": ["a": 0, "b": 1, "ab": 2], "merges": ["a b"]]

  private static func sequence(_ members: String, _ step: JSONValue, _ count: Int) -> JSONValue {
    .object(JSONObject([("type", "Sequence"), (members, .array(Array(repeating: step, count: count)))]))
  }

  private func refusal(_ key: String, _ value: JSONValue) throws -> String {
    var document = JSONObject([("model", Self.model)])
    document[key] = value
    let error = #expect(throws: TokenizerError.self) { try Golden.tokenizer(.object(document)) }
    return error.map { "\($0)" } ?? ""
  }

  @Test func idsOutsideTheVocabulary() throws {
    for id in [-1, 3, 1 << 40] {
      let processor: JSONValue = [
        "type": "TemplateProcessing",
        "single": [["SpecialToken": ["id": "x"]], ["Sequence": ["id": "A"]]],
        "special_tokens": ["x": ["ids": [.integer(id)]]],
      ]
      #expect(try refusal("post_processor", processor).contains("post_processor"))
      #expect(
        try refusal("post_processor", ["type": "BertProcessing", "cls": ["a", 0], "sep": ["b", .integer(id)]])
          .contains("post_processor"))
    }
    #expect(try refusal("added_tokens", [["id": 4_000_000_000, "content": "x"]]).contains("plausible"))
    let far: JSONValue = ["type": "BPE", "vocab": ["a": 2_000_000_000], "merges": []]
    #expect(try refusal("model", far).contains("plausible"))
  }

  @Test func textsThatMultiply() throws {
    let replace: JSONValue = ["type": "Replace", "pattern": ["String": "a"], "content": "aaaaaaaaaa"]
    let steps: JSONValue = ["type": "Sequence", "normalizers": .array(Array(repeating: replace, count: 9))]
    #expect(try refusal("normalizer", steps).contains("as long"))
    let metaspace: JSONValue = ["type": "Metaspace", "replacement": "▁▁▁", "prepend_scheme": "always"]
    for (key, value) in [
      ("normalizer", Self.sequence("normalizers", ["type": "Prepend", "prepend": "aaa"], 6)),
      ("normalizer", Self.sequence("normalizers", ["type": "ByteLevel"], 11)),
      ("normalizer", Self.sequence("normalizers", ["type": "NFKD"], 3)),
      ("pre_tokenizer", Self.sequence("pretokenizers", ["type": "ByteLevel", "add_prefix_space": false], 11)),
      ("pre_tokenizer", Self.sequence("pretokenizers", metaspace, 3)),
      ("decoder", Self.sequence("decoders", replace, 4)),
    ] {
      #expect(try refusal(key, value).contains("as long"), "\(key)")
    }
    let twice: JSONValue = [
      "type": "TemplateProcessing", "single": [["Sequence": ["id": "A"]], ["Sequence": ["id": "A"]]],
    ]
    #expect(try refusal("post_processor", twice).contains("repeats the text"))
    let digits: JSONValue = ["type": "Digits"]
    let many: JSONValue = ["type": "Sequence", "pretokenizers": .array(Array(repeating: digits, count: 1000))]
    #expect(try refusal("pre_tokenizer", many).contains("1000 steps"))
    // No level has many, all together have.
    func nested(_ members: String, _ step: JSONValue) -> JSONValue {
      Self.sequence(members, Self.sequence(members, step, 10), 10)
    }
    for (key, members, step) in [
      ("normalizer", "normalizers", "Lowercase"), ("pre_tokenizer", "pretokenizers", "Digits"),
      ("decoder", "decoders", "Fuse"), ("post_processor", "processors", "ByteLevel"),
    ] {
      #expect(try refusal(key, nested(members, ["type": .string(step)])).contains("100 steps"), "\(key)")
    }
  }

  @Test func absurdSizes() throws {
    let long = JSONValue.string(String(repeating: "x", count: 100_000))
    #expect(try refusal("normalizer", ["type": "Prepend", "prepend": long]).contains("100000 bytes"))
    #expect(try refusal("added_tokens", [["id": 3, "content": long]]).contains("added tokens"))
    for key in ["pre_tokenizer", "decoder"] {
      #expect(try refusal(key, ["type": "Metaspace", "replacement": long]).contains("\(key).replacement"))
    }
    #expect(
      try refusal("normalizer", ["type": "Replace", "pattern": ["String": long], "content": "x"]).contains(
        "100000 bytes"))
    #expect(
      try refusal("pre_tokenizer", ["type": "Split", "behavior": "Isolated", "pattern": ["Regex": long]])
        .contains("regular expression"))
    for affix in ["continuing_subword_prefix", "end_of_word_suffix"] {
      var model = try #require(Self.model.object)
      model[affix] = long
      #expect(try refusal("model", .object(model)).contains(affix))
    }
    for count in [-1, 1 << 60] {
      let strip: JSONValue = ["type": "Strip", "content": "a", "start": .integer(count), "stop": 0]
      #expect(try refusal("decoder", strip).contains("decoder.start"))
    }
  }

  /// Added tokens are looked for as the normalizer writes them.
  @Test func addedTokensThatGrow() throws {
    let tokens = (0..<2000).map { index -> JSONValue in
      [
        "id": .integer(3 + index), "content": .string("\(index)" + String(repeating: "x", count: 100)),
        "normalized": true,
      ]
    }
    let replace: JSONValue = [
      "type": "Replace", "pattern": ["String": "x"], "content": .string(String(repeating: "y", count: 100)),
    ]
    let document: JSONValue = ["model": Self.model, "normalizer": replace, "added_tokens": .array(tokens)]
    let error = #expect(throws: TokenizerError.self) { try Golden.tokenizer(document) }
    #expect(error.map { "\($0)" }?.contains("normalized form") == true)
  }

  /// Exponential backtracking is given up after a number of steps, and every later text is refused too.
  @Test func anExpressionWithoutEnd() throws {
    let tokenizer = try Golden.tokenizer([
      "model": Self.model,
      "pre_tokenizer": ["type": "Split", "behavior": "Isolated", "pattern": ["Regex": "(a|a)*c"]],
    ])
    #expect(try tokenizer.encode("ab") == [2])
    for text in [String(repeating: "a", count: 60), "ab"] {
      let error = #expect(throws: TokenizerError.self) { try tokenizer.encode(text) }
      #expect(error.map { "\($0)" }?.contains("(a|a)*c") == true)
    }
  }

  /// Each of many words takes less than a text may: together they are given up.
  @Test func anExpressionWithoutEndOnManyWords() throws {
    let tokenizer = try Golden.tokenizer([
      "model": Self.model,
      "pre_tokenizer": [
        "type": "Sequence",
        "pretokenizers": [
          ["type": "WhitespaceSplit"],
          ["type": "Split", "behavior": "Isolated", "pattern": ["Regex": "(a|a)*c"]],
        ],
      ],
    ])
    let word = String(repeating: "a", count: 17) + " "
    #expect(try tokenizer.encode(word).count == 17)
    let error = #expect(throws: TokenizerError.self) { try tokenizer.encode(String(repeating: word, count: 5000)) }
    #expect(error?.isTooSlow == true)
  }

  /// Long texts of ordinary patterns stay far below the limit.
  @Test func ordinaryExpressionsPass() throws {
    let tokenizer = try Golden.tokenizer([
      "model": Self.model,
      "pre_tokenizer": [
        "type": "Split", "behavior": "Isolated",
        "pattern": ["Regex": #"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|\s+(?!\S)|\s+"#],
      ],
    ])
    let words = String(repeating: "ab ab\n", count: 300_000)
    #expect(try tokenizer.encode(words).count == 600_000)
  }

  @Test(arguments: ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"])
  func aPipeIsNotWaitedFor(_ name: String) throws {
    let model = Array(JSONValue.object(JSONObject([("model", Self.model)])).serialized().utf8)
    let files = name == "tokenizer.json" ? [] : [(name: "tokenizer.json", bytes: model)]
    try Golden.withFolder(files) { folder in
      #expect(mkfifo(folder + "/" + name, 0o600) == 0)
      let error = #expect(throws: (any Error).self) { try Tokenizer(directory: folder) }
      #expect(error.map { "\($0)" }?.contains("\(folder)/\(name): it is a pipe") == true)
    }
  }
}
