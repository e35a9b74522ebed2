import Packing
import Preferences
import Synchronization
import Testing

@Suite struct PairTokenizerTests {
  static let place = RowLocation(file: "rows.jsonl", line: 3)

  static func tokenize(
    _ prompt: String, _ chosen: String, _ rejected: String, bos: Int32? = nil, eos: Int32? = 2,
    _ truncation: TokenTruncation = TokenTruncation()
  ) throws -> Result<PairTokenizer.Output, DataDefect> {
    try PairTokenizer(encoding: TinyTokenizer.encoding(bos: bos, eos: eos), truncation: truncation)
      .tokenize(PreferenceText(prompt: prompt, chosen: chosen, rejected: rejected), at: place)
  }

  /// Characters as the ids that TinyTokenizer gives them.
  static func ids(_ text: String) -> [Int32] { TinyTokenizer.encode(text) }

  @Test func aMergeAcrossTheBoundaryStepsBackOne() throws {
    let output = try Self.tokenize("xa", "bq", "cq").get()
    #expect(output.pair.chosen == Self.ids("xabq") + [2])
    #expect(output.pair.chosenPromptLength == 1)
    #expect(output.pair.rejectedPromptLength == 2)
    #expect(output.pair.dumpLine.contains(#""prompt_length": 1, "rejected_prompt_length": 2"#))
  }

  @Test func aPromptSwallowedByAMergeLeavesBOS() throws {
    let output = try Self.tokenize("a", "b", "c", bos: 1).get()
    #expect(output.pair.chosen == [1] + Self.ids("ab") + [2])
    #expect(output.pair.chosenPromptLength == 1)
    #expect(output.pair.rejectedPromptLength == 2)
  }

  @Test func specialTokensAreNotDoubled() throws {
    let output = try Self.tokenize("[BOS]x", "y[EOS]", "z", bos: 1).get()
    #expect(output.pair.chosen == [1] + Self.ids("xy") + [2])
    #expect(output.pair.rejected == [1] + Self.ids("xz") + [2])
  }

  @Test func withoutEOSNoneIsAdded() throws {
    #expect(try Self.tokenize("x", "y", "z", eos: nil).get().pair.chosen == Self.ids("xy"))
  }

  @Test func aShorterWholeThanItsPromptStillHasACompletion() throws {
    // Five tokens of prompt, but two once the completion follows.
    let encoding = TextEncoding(bosTokenID: nil, eosTokenID: nil) { text in
      text == "prompt" ? [5, 6, 7, 8, 9] : text.hasSuffix("y") ? [50, 51] : [5, 6, 7, 8, 9, 10]
    }
    let output = try PairTokenizer(encoding: encoding)
      .tokenize(PreferenceText(prompt: "prompt", chosen: "y", rejected: "z"), at: Self.place).get()
    #expect(
      output.pair
        == TokenizedPair(
          chosen: [50, 51], rejected: [5, 6, 7, 8, 9, 10], chosenPromptLength: 1, rejectedPromptLength: 5))
  }

  /// Prompt `0123456789` (11 tokens with BOS), chosen `wxyz`, rejected `uv`, EOS: 16 and 14 tokens.
  static let truncations:
    [(TokenTruncation, prompt: String, chosen: String, rejected: String, cutsPrompt: Bool, cutsCompletion: Bool)] = [
      (TokenTruncation(maxLength: nil, maxPromptLength: 2), "0123456789", "wxyz.", "uv.", false, false),
      (TokenTruncation(maxLength: 16, maxPromptLength: 2), "0123456789", "wxyz.", "uv.", false, false),
      (TokenTruncation(maxLength: 15, maxPromptLength: 512), "0123456789", "wxyz", "uv.", false, true),
      (TokenTruncation(maxLength: 15, maxPromptLength: nil), "0123456789", "wxyz", "uv.", false, true),
      (TokenTruncation(maxLength: 15, maxPromptLength: 5), "6789", "wxyz.", "uv.", true, false),
      (TokenTruncation(maxLength: 15, maxPromptLength: 5, mode: .keepStart), "0123", "wxyz.", "uv.", true, false),
      (TokenTruncation(maxLength: 7, maxPromptLength: 5), "6789", "wx", "uv", true, true),
      (TokenTruncation(maxLength: 12, maxPromptLength: 11), "0123456789", "w", "u", false, true),
      (TokenTruncation(maxLength: 2, maxPromptLength: 1), "", "w", "u", true, true),
    ]

  @Test(arguments: truncations) func longPairsAreCut(
    _ truncation: TokenTruncation, _ prompt: String, _ chosen: String, _ rejected: String, _ cutsPrompt: Bool,
    _ cutsCompletion: Bool
  ) throws {
    let output = try Self.tokenize("0123456789", "wxyz", "uv", bos: 1, truncation).get()
    func sequence(_ completion: String) -> [Int32] {
      [1] + Self.ids(prompt) + Self.ids(completion).map { $0 == 46 ? 2 : $0 }
    }
    #expect(output.pair.chosen == sequence(chosen))
    #expect(output.pair.rejected == sequence(rejected))
    #expect(output.pair.chosenPromptLength == prompt.count + 1)
    #expect(output.promptWasTruncated == cutsPrompt)
    #expect(output.completionWasTruncated == cutsCompletion)
    if let maxLength = truncation.maxLength {
      #expect(max(output.pair.chosen.count, output.pair.rejected.count) <= maxLength)
    }
  }

  @Test func promptsOfDifferentLengthGoOnSharing() throws {
    // `xxxxxa` + `b` merges, `xxxxxa` + `c` does not: the same tokens are dropped from both.
    let output = try Self.tokenize("12345a", "bq", "cq", TokenTruncation(maxLength: 6, maxPromptLength: 3)).get()
    #expect(output.pair.chosen == Self.ids("45") + Self.ids("ab") + Self.ids("q") + [2])
    #expect(output.pair.rejected == Self.ids("45acq") + [2])
    #expect(output.pair.sharedPrefixLength == 2)
  }

  static let leftOut: [(String, String, String, TokenTruncation, DataDefect.Kind)] = [
    ("0123456789", "w", "u", TokenTruncation(maxLength: 10), .emptyAfterTruncation),
    ("0123456789", "w", "u", TokenTruncation(maxLength: 4, maxPromptLength: 4), .emptyAfterTruncation),
    ("01", "same then w", "same then u", TokenTruncation(maxLength: 8), .identicalAfterTruncation),
    // The same tokens before any truncation: the first says its end, the second gets it appended.
    ("p", "x[EOS]", "x", TokenTruncation(), .identicalCompletions),
    ("", "[EOS]", "x", TokenTruncation(), .emptyCompletion),
  ]

  @Test(arguments: leftOut) func pairsThatCannotBeUsedAreDefects(
    _ prompt: String, _ chosen: String, _ rejected: String, _ truncation: TokenTruncation, _ kind: DataDefect.Kind
  ) throws {
    let defect = try #require(try Self.tokenize(prompt, chosen, rejected, truncation).failure)
    #expect(defect.kind == kind)
    #expect(defect.location == Self.place)
  }

  @Test func impossibleLimitsAreErrors() {
    let encoding = TinyTokenizer.encoding()
    for truncation in [TokenTruncation(maxLength: 1), TokenTruncation(maxPromptLength: 0)] {
      #expect(throws: PreferenceFileError.self) { try PairTokenizer(encoding: encoding, truncation: truncation) }
    }
  }

  @Test func thePromptIsEncodedOnce() throws {
    let calls = Mutex<[String]>([])
    let encoding = TextEncoding(bosTokenID: nil, eosTokenID: 2) { text in
      calls.withLock { $0.append(text) }
      return TinyTokenizer.encode(text)
    }
    _ = try PairTokenizer(encoding: encoding)
      .tokenize(PreferenceText(prompt: "p", chosen: "c", rejected: "r"), at: Self.place).get()
    #expect(calls.withLock { $0.sorted() } == ["p", "pc", "pr"])
  }

  @Test func aTokenizerErrorIsADefect() throws {
    struct Refusal: Error {}
    let encoding = TextEncoding(bosTokenID: nil, eosTokenID: 2) { _ in throw Refusal() }
    let result = try PairTokenizer(encoding: encoding)
      .tokenize(PreferenceText(prompt: "p", chosen: "c", rejected: "r"), at: Self.place)
    #expect(result.failure?.kind == .tokenizer)
  }
}
