import Foundation
import JSON
import Testing
import Tokenization

@Suite struct GGUFTests {
  /// The vocabulary of a family's tokenizer.json as GGUF metadata.
  private static func byteLevel(_ family: String, pre: String?) throws -> GGUFVocabulary {
    let document = try Golden.read("\(Golden.folder)/families/\(family)/tokenizer.json")
    let vocabulary = try #require(document["model"]?["vocab"]?.object?.members)
    let added = try #require(document["added_tokens"]?.array)
    var tokens = vocabulary.sorted { ($0.value.integer ?? 0) < ($1.value.integer ?? 0) }.map(\.key)
    var types = tokens.map { _ in 1 }
    for token in added {
      tokens.append(try #require(token["content"]?.string))
      types.append(3)
    }
    let merges = try #require(document["model"]?["merges"]?.array).map { merge in
      merge.string ?? (merge.array ?? []).compactMap(\.string).joined(separator: " ")
    }
    return GGUFVocabulary(
      model: "gpt2", pre: pre, tokens: tokens.map { Array($0.utf8) }, tokenTypes: types, merges: merges,
      bosTokenID: tokens.firstIndex(of: "<s>"), eosTokenID: tokens.firstIndex(of: "</s>"),
      chatTemplate: "{{ bos_token }}")
  }

  /// The same ids as from tokenizer.json, also after the files it writes were read back.
  @Test(arguments: [("gpt2", "gpt-2"), ("smollm", "smollm"), ("llama3", "llama-bpe"), ("qwen2", "qwen2")])
  func byteLevelEqualsItsTokenizerFile(_ family: String, pre: String) throws {
    let tokenizer = try Tokenizer(gguf: Self.byteLevel(family, pre: pre))
    let golden = "\(Golden.folder)/families/\(family)/golden.json"
    try Golden.check(tokenizer, against: golden)
    try Golden.withFolder(tokenizer.files()) { folder in
      let read = try Tokenizer(directory: folder)
      try Golden.check(read, against: golden)
      #expect(read.bosTokenID == tokenizer.bosTokenID && read.chatTemplate == "{{ bos_token }}")
      #expect(read.templateVariables == tokenizer.templateVariables)
    }
  }

  private static func sentencePiece() throws -> GGUFVocabulary {
    let gguf = try Golden.read(Golden.folder + "/families/llama2/gguf.json")
    return GGUFVocabulary(
      model: "llama", tokens: try #require(gguf["tokens"]?.array).map { Array(($0.string ?? "").utf8) },
      scores: try #require(gguf["scores"]?.array).map { Float($0.double ?? 0) },
      tokenTypes: try #require(gguf["token_type"]?.array).map { $0.integer ?? 0 },
      bosTokenID: gguf["bos_token_id"]?.integer,
      eosTokenID: gguf["eos_token_id"]?.integer, unknownTokenID: gguf["unknown_token_id"]?.integer, addBosToken: true)
  }

  /// Merges come from the scores, as transformers derives them.
  @Test func sentencePieceEqualsItsTokenizerFile() throws {
    let tokenizer = try Tokenizer(gguf: Self.sentencePiece())
    try Golden.check(tokenizer, against: Golden.folder + "/families/llama2/golden.json")
    try Golden.withFolder(tokenizer.files()) { folder in
      try Golden.check(Tokenizer(directory: folder), against: Golden.folder + "/families/llama2/golden.json")
    }
  }

  @Test func spacePrefixIsAnOption() throws {
    var vocabulary = try Self.sentencePiece()
    let with = try Tokenizer(gguf: vocabulary)
    vocabulary.addSpacePrefix = false
    vocabulary.addBosToken = false
    let without = try Tokenizer(gguf: vocabulary)
    #expect(try without.encode(" The") == with.encode("The"))
    #expect(try without.encode("The", addSpecialTokens: true) == without.encode("The"))
    #expect(try without.decode(without.encode(" The")) == " The")
  }

  /// llama.cpp's default: symbols apart, numbers in threes from the left.
  @Test func defaultPreTokenizerSplitsSymbolsAndNumbers() throws {
    let vocabulary = try Self.byteLevel("gpt2", pre: "default")
    let tokenizer = try Tokenizer(gguf: vocabulary)
    let pieces = ["a", "+", "b", "123", "4"]
    #expect(try tokenizer.encode(pieces.joined()) == pieces.flatMap { try tokenizer.encode($0) })
  }

  @Test func unknownPreTokenizerIsNamed() throws {
    let vocabulary = try Self.byteLevel("gpt2", pre: "other-bpe")
    #expect {
      try Tokenizer(gguf: vocabulary)
    } throws: { "\($0)".contains("other-bpe") && "\($0)".contains("tokenizer.ggml.pre") }
    let silent = try Self.byteLevel("gpt2", pre: nil)
    #expect { try Tokenizer(gguf: silent) } throws: { "\($0)".contains("tokenizer.ggml.pre: is missing") }
  }

  /// Merges are found by cutting every token everywhere.
  @Test func longTokensWithoutMergesAreRefused() throws {
    var vocabulary = try Self.sentencePiece()
    vocabulary.tokens[300] = Array(repeating: UInt8(ascii: "x"), count: 5000)
    #expect { try Tokenizer(gguf: vocabulary) } throws: {
      "\($0)".contains("tokenizer.ggml.tokens[300]: has 5000 bytes")
    }
  }

  @Test func defectsAreNamed() throws {
    var vocabulary = try Self.byteLevel("gpt2", pre: "gpt-2")
    vocabulary.bosTokenID = 1_000_000
    #expect { try Tokenizer(gguf: vocabulary) } throws: { "\($0)".contains("bos_token_id") }
    vocabulary = try Self.byteLevel("gpt2", pre: "gpt-2")
    vocabulary.tokenTypes.removeLast()
    #expect { try Tokenizer(gguf: vocabulary) } throws: { "\($0)".contains("token_type") }
    vocabulary = try Self.byteLevel("gpt2", pre: "gpt-2")
    vocabulary.tokens[5] = [0xFF]
    #expect { try Tokenizer(gguf: vocabulary) } throws: { "\($0)".contains("tokens[5]") }
    vocabulary = try Self.byteLevel("gpt2", pre: "gpt-2")
    vocabulary.model = "t5"
    #expect { try Tokenizer(gguf: vocabulary) } throws: { "\($0)".contains("\"t5\"") }
  }
}
