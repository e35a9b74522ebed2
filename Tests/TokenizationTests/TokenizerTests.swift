import Foundation
import JSON
import Testing
import Tokenization

@Suite struct TokenizerTests {
  /// Equal to Hugging Face `tokenizers` on hostile texts, one tiny vocabulary for each family's pipeline.
  @Test(arguments: Golden.subfolders(of: Golden.folder + "/families"))
  func familyEqualsHuggingFace(_ family: String) throws {
    let folder = "\(Golden.folder)/families/\(family)"
    try Golden.check(Tokenizer(directory: folder), against: folder + "/golden.json")
  }

  /// Real tokenizers, on request: ORPO_DIST_TOKENIZER_GOLDENS names a folder of FAMILY/{tokenizer.json, golden.json}.
  @Test(arguments: Golden.subfolders(of: ProcessInfo.processInfo.environment["ORPO_DIST_TOKENIZER_GOLDENS"] ?? ""))
  func realFamilyEqualsHuggingFace(_ family: String) throws {
    let folder = (ProcessInfo.processInfo.environment["ORPO_DIST_TOKENIZER_GOLDENS"] ?? "") + "/" + family
    try Golden.check(Tokenizer(directory: folder), against: folder + "/golden.json")
  }

  @Test func specialTokensComeFromTheConfiguration() throws {
    let smollm = try Tokenizer(directory: Golden.folder + "/families/smollm")
    #expect(smollm.bosToken == "<s>" && smollm.eosToken == "</s>")
    #expect(smollm.bosTokenID == smollm.id(of: "<s>") && smollm.bosTokenID != nil)
    #expect(smollm.padTokenID == nil && smollm.unkTokenID == nil)
    #expect(smollm.templateVariables == ["bos_token": "<s>", "eos_token": "</s>"])
    #expect(smollm.token(of: try #require(smollm.eosTokenID)) == "</s>")
    let qwen = try Tokenizer(directory: Golden.folder + "/families/qwen2")
    #expect(qwen.bosTokenID == nil && qwen.padTokenID == qwen.id(of: "<|endoftext|>"))
    #expect(qwen.vocabularySize == (qwen.id(of: "<s>").map { Int($0) + 1 }))
  }

  @Test func olderSpecialTokensMapIsRead() throws {
    let definition = try Data(contentsOf: URL(fileURLWithPath: Golden.folder + "/families/gpt2/tokenizer.json"))
    let map = #"{"bos_token": {"content": "<s>", "lstrip": false}, "eos_token": "</s>"}"#
    let config =
      #"{"pad_token": "</s>", "chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]}"#
    try Golden.withFolder([
      ("tokenizer.json", Array(definition)), ("special_tokens_map.json", Array(map.utf8)),
      ("tokenizer_config.json", Array(config.utf8)),
    ]) { folder in
      let tokenizer = try Tokenizer(directory: folder)
      #expect(tokenizer.bosToken == "<s>" && tokenizer.eosToken == "</s>" && tokenizer.padToken == "</s>")
      #expect(tokenizer.chatTemplate == "d")
    }
  }

  @Test func templateFileWinsOverTheConfiguration() throws {
    let definition = try Data(contentsOf: URL(fileURLWithPath: Golden.folder + "/families/gpt2/tokenizer.json"))
    try Golden.withFolder([
      ("tokenizer.json", Array(definition)), ("tokenizer_config.json", Array(#"{"chat_template": "old"}"#.utf8)),
      ("chat_template.jinja", Array("a\r\nb".utf8)),
    ]) { folder in
      let tokenizer = try Tokenizer(directory: folder)
      #expect(tokenizer.chatTemplate == "a\nb")
    }
  }

  @Test func folderComesBackByteForByte() throws {
    let folder = Golden.folder + "/families/llama2"
    let files = try Tokenizer(directory: folder).files()
    #expect(files.map(\.name) == ["tokenizer.json", "tokenizer_config.json"])
    for file in files {
      #expect(try Data(contentsOf: URL(fileURLWithPath: folder + "/" + file.name)) == Data(file.bytes), "\(file.name)")
    }
  }

  @Test func bytesTakeAnyTextAndGiveItBack() throws {
    let tokenizer = try Tokenizer.bytes()
    #expect(tokenizer.vocabularySize == 259)
    #expect(tokenizer.bosTokenID == 256 && tokenizer.eosTokenID == 257 && tokenizer.padTokenID == 258)
    let text = "a\u{e9}e\u{301}\u{1F468}\u{200D}\u{1F469}\r\n\0"
    #expect(try tokenizer.encode(text) == text.utf8.map { Int32($0) })
    #expect(try Array(tokenizer.decode(tokenizer.encode(text)).utf8) == Array(text.utf8))
    #expect(try tokenizer.encode("a<|eos|>b") == [97, 257, 98])
    try Golden.withFolder(tokenizer.files()) { folder in
      let read = try Tokenizer(directory: folder)
      #expect(try read.encode(text) == tokenizer.encode(text))
      #expect(read.chatTemplate == tokenizer.chatTemplate && read.eosTokenID == 257)
    }
  }

  /// One long line: merging must not be quadratic (minutes where this takes a second), and long words must equal short
  /// ones.
  @Test(arguments: ["gpt2", "llama2", "llama3", "mistral"])
  func longLine(_ family: String) throws {
    let tokenizer = try Tokenizer(directory: "\(Golden.folder)/families/\(family)")
    let unit = "The quick brown fox \u{4f60}\u{597d} e\u{301}"
    let text = String(repeating: unit, count: 1_000_000 / unit.utf8.count)
    let ids = try tokenizer.encode(text)
    #expect(Array(tokenizer.decode(ids).utf8) == Array(text.utf8))
    let letters = String(repeating: "abcdefghij", count: 100_000)
    let whole = try tokenizer.encode(letters)
    #expect(Array(tokenizer.decode(whole).utf8) == Array(letters.utf8))
    // What is periodic in the text is periodic in the ids, away from the ends.
    let tenth = try tokenizer.encode(String(repeating: "abcdefghij", count: 10_000))
    #expect(Array(whole.prefix(1000)) == Array(tenth.prefix(1000)))
  }

  @Test func severalThreadsAtOnce() throws {
    let tokenizer = try Tokenizer(directory: Golden.folder + "/families/llama3")
    let texts = (0..<200).map { "Order \($0) of \($0 * 37) kettles, don't wait \($0 % 7) days" }
    let alone = try texts.map { try tokenizer.encode($0) }
    let results = Results(count: 8)
    DispatchQueue.concurrentPerform(iterations: 8) { thread in
      results.set(thread, texts.map { (try? tokenizer.encode($0)) ?? [] })
    }
    for result in results.all { #expect(result == alone) }
  }

  private final class Results: @unchecked Sendable {
    private let lock = NSLock()
    private var values: [[[Int32]]]
    init(count: Int) { values = Array(repeating: [], count: count) }
    func set(_ index: Int, _ value: [[Int32]]) { lock.withLock { values[index] = value } }
    var all: [[[Int32]]] { lock.withLock { values } }
  }
}
