import JSON
import Packing
import Preferences
import Synchronization
import Testing
import Tokenization

@Suite struct PreferenceDatasetTests {
  static let rows = """
    {"prompt": "0123456789", "chosen": "yes", "rejected": "no"}

    {"prompt": "p", "chosen": "", "rejected": "no"}
    not json
    {"prompt": "p", "chosen": "a", "rejected": "a"}
    {"prompt": "pp", "chosen": "0123456789", "rejected": "b"}
    {"prompt": "p", "chosen": "", "rejected": "no"}
    {"prompt": "", "chosen": "a", "rejected": "b"}
    {"prompt": "ppp", "chosen": "same same same 1", "rejected": "same same same 2"}
    """

  static func load(_ path: String, strict: Bool = false, threads: Int = 1) throws -> PreferenceDataset {
    try PreferenceDataset.load(
      files: [path], encoding: TinyTokenizer.encoding(), truncation: TokenTruncation(maxLength: 8, maxPromptLength: 4),
      strict: strict, threads: threads)
  }

  @Test(arguments: [1, 2, 5]) func rowsAreKeptOrNamed(_ threads: Int) throws {
    let file = try TemporaryFile(Self.rows)
    let data = try Self.load(file.path, threads: threads)
    #expect(data.locations.map(\.line) == [1, 6, 8])
    #expect(data.pairs.map(\.chosenPromptLength) == [4, 2, 0])
    let report = data.report
    #expect((report.rowsRead, report.rowsKept, report.rowsLeftOut) == (8, 3, 5))
    #expect(report.defects.map(\.line) == [3, 4, 5, 7, 9])
    #expect(
      report.defectCounts.map(\.kind) == [
        .emptyCompletion, .malformedJSON, .identicalCompletions, .identicalAfterTruncation,
      ])
    #expect(report.defectCounts.map(\.count) == [2, 1, 1, 1])
    #expect(report.truncatedPrompts.map(\.line) == [1])
    #expect(report.truncatedCompletions.map(\.line) == [6])
    #expect(report.emptyPrompts == 1)
  }

  @Test func strictStopsAtTheFirstDefect() throws {
    let file = try TemporaryFile(Self.rows)
    let defect = try #require(throws: DataDefect.self) { try Self.load(file.path, strict: true, threads: 4) }
    #expect(defect.line == 3)
    #expect(defect.kind == .emptyCompletion)
  }

  @Test func lengthsAndSharingAreReported() throws {
    let texts = (1...100).map { length in
      #"{"prompt": "xy", "chosen": "\#(String(repeating: "c", count: length))", "rejected": "r"}"#
    }
    let file = try TemporaryFile(texts.joined(separator: "\n"))
    let report = try PreferenceDataset.load(files: [file.path], encoding: TinyTokenizer.encoding()).report
    #expect((report.chosen.p50, report.chosen.p90, report.chosen.p99, report.chosen.max) == (51, 91, 100, 101))
    #expect(report.whole.max == 103)
    #expect((report.prompt.p50, report.prompt.total) == (2, 200))
    // Alone: 2 + length + EOS - 1, and 3 for the rejected one; shared: the two prompt rows once.
    #expect(report.rowsWithoutSharing == (1...100).reduce(0) { $0 + $1 + 2 + 3 })
    #expect(report.packedRows.total == (1...100).reduce(0) { $0 + 2 + $1 + 1 })
    let json = report.json()
    #expect(json["lengths"]?["packed_rows"]?["total"]?.integer == report.packedRows.total)
    #expect(json["rows_without_sharing"]?.integer == report.rowsWithoutSharing)
  }

  @Test func theReportNamesTheFirstRowsAndCountsAll() throws {
    let bad = String(repeating: "{\"prompt\": \"p\", \"chosen\": \"\", \"rejected\": \"x\"}\n", count: 7)
    let file = try TemporaryFile(#"{"prompt": "p", "chosen": "a", "rejected": "b"}"# + "\n" + bad)
    let report = try PreferenceDataset.load(files: [file.path], encoding: TinyTokenizer.encoding()).report
    let text = report.text(named: 2)
    #expect(text.contains("left out, empty completion: 7\n    \(file.path):2: 'chosen' is empty\n    \(file.path):3:"))
    #expect(text.contains("and 5 more"))
    #expect(!text.contains("\(file.path):4:"))
    let json = report.json(named: 3)
    let leftOut = try #require(json["left_out"]?.array?.first)
    #expect(leftOut["count"]?.integer == 7)
    #expect(leftOut["rows"]?.array?.compactMap { $0["line"]?.integer } == [2, 3, 4])
  }

  @Test func reasonsAndTheirNumberAreBounded() throws {
    let role = String(repeating: "x\u{0301}", count: 100_000)
    let bad =
      #"{"prompt": [{"role": "\#(role)", "content": "x"}], "chosen": [{"role": "a", "content": "b"}], "#
      + #""rejected": [{"role": "a", "content": "c"}]}"#
    let rows = [bad] + Array(repeating: "oops", count: 250)
    let good = try TemporaryFile(#"{"prompt": "p", "chosen": "a", "rejected": "b"}"#)
    let file = try TemporaryFile(rows.joined(separator: "\n"))
    let report = try PreferenceDataset.load(files: [good.path, file.path], encoding: TinyTokenizer.encoding()).report
    #expect(report.defects.first.map { $0.reason.unicodeScalars.count } == 504)
    #expect(report.defects.count == 101)
    #expect((report.rowsRead, report.rowsLeftOut) == (252, 251))
    #expect(report.defectCounts.map(\.count) == [250, 1])
    #expect(report.text().contains("and 245 more"))
    #expect(report.text(named: 1000).contains("and 150 more"))
  }

  /// Which rows come before and after it on other threads shows nowhere.
  @Test(arguments: [1, 3]) func aTokenizerThatIsTooSlowEndsTheRun(_ threads: Int) throws {
    let file = try TemporaryFile(
      ["a", "b", "slow", "c"].map { #"{"prompt": "\#($0)", "chosen": "a", "rejected": "b"}"# }.joined(separator: "\n"))
    let slow = TokenizerError.tooSlow(pattern: "(a|a)*c", file: "tokenizer.json", key: "pre_tokenizer.pattern")
    let encoding = TextEncoding(bosTokenID: nil, eosTokenID: 2) { text in
      if text.hasPrefix("slow") { throw slow }
      return TinyTokenizer.encode(text)
    }
    #expect(throws: slow) { try PreferenceDataset.load(files: [file.path], encoding: encoding, threads: threads) }
  }

  @Test func noUsablePairIsAnError() throws {
    let file = try TemporaryFile(#"{"prompt": "p", "chosen": "a", "rejected": "a"}"#)
    let error = try #require(throws: PreferenceFileError.self) {
      try PreferenceDataset.load(files: [file.path], encoding: TinyTokenizer.encoding())
    }
    #expect(error.description.contains("1 identical completions"))
  }

  static func conversation(_ role: String, _ chosen: String, _ rejected: String) -> String {
    #"{"prompt": [{"role": "\#(role)", "content": "Hi"}], "chosen": [{"role": "assistant", "content": "\#(chosen)"}], "#
      + #""rejected": [{"role": "\#(rejected == "x" ? "refused" : "assistant")", "content": "\#(rejected)"}]}"#
  }

  @Test func conversationsAreRenderedTogetherWithText() throws {
    let talk = try TemporaryFile(
      [
        Self.conversation("user", "a", "b"), Self.conversation("user", "a", "x"), "oops",
        Self.conversation("tool", "c", "d"),
      ]
      .joined(separator: "\n"))
    let text = try TemporaryFile(#"{"prompt": "p", "chosen": "a", "rejected": "b"}"#)
    let data = try PreferenceDataset.load(
      files: [talk.path, text.path], encoding: TinyTokenizer.encoding(), chat: TinyTokenizer.chat)
    #expect(data.locations.map(\.line) == [1, 4, 1])
    #expect(data.report.defects.map(\.kind) == [.chatTemplate, .malformedJSON])
    #expect(data.report.defects.map(\.line) == [2, 3])
    #expect(data.pairs[1].chosen.starts(with: TinyTokenizer.encode("[BOS]<tool>Hi</tool>\n<assistant>c")))
    #expect(data.pairs[0].sharedPrefixLength == TinyTokenizer.encode("[BOS]<user>Hi</user>\n<assistant>").count)
  }

  /// No more rows are rendered at once than fit in memory however long their texts become.
  @Test func conversationsAreRenderedInSlices() throws {
    let sizes = Mutex<[Int]>([])
    let chat: ChatRendering = { requests in
      sizes.withLock { $0.append(requests.count) }
      return try TinyTokenizer.chat(requests)
    }
    let rows = (0..<100).map { Self.conversation("user", "a\($0)", "b") }
    let file = try TemporaryFile(rows.joined(separator: "\n"))
    let data = try PreferenceDataset.load(
      files: [file.path], encoding: TinyTokenizer.encoding(), chat: chat, threads: 2)
    #expect(data.locations.map(\.line) == Array(1...100))
    #expect(sizes.withLock { $0.max() ?? 0 } <= 24)
    #expect(sizes.withLock { $0.reduce(0, +) } == 300)
  }

  @Test func conversationsNeedATemplate() throws {
    let file = try TemporaryFile(Self.conversation("user", "a", "b"))
    #expect(throws: PreferenceFileError.noChatTemplate(file: file.path, line: 1)) {
      try PreferenceDataset.load(files: [file.path], encoding: TinyTokenizer.encoding())
    }
  }

  @Test func manyRowsAreTheSameOnAnyNumberOfThreads() throws {
    let path = golden("rows.jsonl.gz")
    let alone = try PreferenceDataset.load(files: [path], encoding: TinyTokenizer.encoding())
    let together = try PreferenceDataset.load(files: [path], encoding: TinyTokenizer.encoding(), threads: 4)
    #expect(alone.pairs.count == 2000)
    #expect(alone.pairs == together.pairs)
    #expect(alone.locations == together.locations)
  }

  @Test func theFingerprintSeesEveryChange() throws {
    let file = try TemporaryFile(Self.rows)
    let data = try Self.load(file.path)
    #expect(data.fingerprint == (try Self.load(file.path, threads: 3)).fingerprint)
    var changed = [data, data, data, data]
    changed[0].pairs[1].rejected[1] += 1
    changed[1].pairs[0].chosenPromptLength -= 1
    changed[2].pairs.swapAt(0, 1)
    changed[3].pairs.removeLast()
    #expect(Set((changed + [data]).map(\.fingerprint)).count == 5)
  }

  @Test func theDumpIsJSON() throws {
    let pair = TokenizedPair(chosen: [1, 5, 2], rejected: [1, 6, 2], chosenPromptLength: 1, rejectedPromptLength: 1)
    #expect(pair.dumpLine == #"{"chosen_input_ids": [1, 5, 2], "rejected_input_ids": [1, 6, 2], "prompt_length": 1}"#)
  }
}
