import Foundation
import JSON
import Packing
import Preferences
import Testing

/// Texts and token ids equal to TRL's own `maybe_extract_prompt`, `maybe_apply_chat_template` and `tokenize_row`.
@Suite struct TRLParityTests {
  static let cases: [JSONValue] = {
    let data = try? Data(contentsOf: URL(fileURLWithPath: golden("trl.json")))
    return data.flatMap { try? JSONValue(parsing: $0) }?.array ?? []
  }()

  @Test func thereAreCases() { #expect(Self.cases.count > 300) }

  @Test(arguments: cases) func textsAndTokensEqualTRL(_ golden: JSONValue) throws {
    let row = try #require(golden["row"]).serialized()
    let file = try TemporaryFile(row)
    let example = try #require(try file.example())
    let text = try #require(try PreferenceExample.texts(of: [example], chat: TinyTokenizer.chat).first).get()
    let expected = try ["prompt", "chosen", "rejected"].map { try #require(golden["text"]?[$0]?.string) }
    #expect(text == PreferenceText(prompt: expected[0], chosen: expected[1], rejected: expected[2]))

    let encoding = TinyTokenizer.encoding(
      bos: golden["bos"]?.integer.map(Int32.init), eos: golden["eos"]?.integer.map(Int32.init))
    let tokenizer = try PairTokenizer(encoding: encoding, truncation: TokenTruncation(maxLength: nil))
    let output = try tokenizer.tokenize(text, at: example.location).get()
    func ids(_ key: String) throws -> [Int32] {
      try #require(golden[key]?.array).map { Int32(try #require($0.integer)) }
    }
    let lengths = try ids("prompt_lengths").map(Int.init)
    let pair = TokenizedPair(
      chosen: try ids("chosen_input_ids"), rejected: try ids("rejected_input_ids"), chosenPromptLength: lengths[0],
      rejectedPromptLength: lengths[1])
    #expect(output.pair == pair)
    #expect(!output.promptWasTruncated && !output.completionWasTruncated)
  }
}
