import JSON
import Preferences
import Testing

@Suite struct RowLayoutTests {
  static func pair(_ prompt: String, _ chosen: String, _ rejected: String, _ arguments: String = "{}") -> String {
    "[[\(prompt)], [\(chosen)], [\(rejected)], \(arguments)]"
  }
  static func message(_ role: String, _ content: String) -> String {
    #"{"role": "\#(role)", "content": "\#(content)"}"#
  }
  static let hi = message("user", "Hi")
  static let good = message("assistant", "good")
  static let bad = message("assistant", "bad")

  /// A row, and the example it gives.
  static let rows: [(String, String)] = [
    (#"{"prompt": "p", "chosen": "c", "rejected": "r", "id": 7}"#, #"["p", "c", "r"]"#),
    (#"{"prompt": null, "chosen": "I am", "rejected": "I was"}"#, #"["I", " am", " was"]"#),
    (#"{"chosen": "xyé", "rejected": "xyè"}"#, #"["xy", "é", "è"]"#),
    (#"{"prompt": [\#(hi)], "chosen": [\#(good)], "rejected": [\#(bad)]}"#, pair(hi, good, bad)),
    (#"{"chosen": [\#(hi), \#(good)], "rejected": [\#(hi), \#(bad)]}"#, pair(hi, good, bad)),
    (#"{"prompt": "Hi", "chosen": [\#(hi), \#(good)], "rejected": [\#(hi), \#(bad)]}"#, pair(hi, good, bad)),
    (
      #"{"conversations": [{"from": "human", "value": "Hi"}], "chosen": {"from": "gpt", "value": "good"}, "#
        + #""rejected": {"from": "gpt", "value": "bad"}}"#, pair(hi, good, bad)
    ),
    (
      #"{"conversations": [{"from": "system", "value": "S"}, {"from": "human", "value": "Hi"}], "system": "other", "#
        + #""chosen": {"from": "gpt", "value": "good"}, "rejected": {"from": "gpt", "value": "bad"}}"#,
      pair(message("system", "S") + ", " + hi, good, bad)
    ),
    (
      #"{"conversations": [{"from": "human", "value": "Hi"}, {"from": "function_call", "value": "{\"name\": \"f\", "#
        + #"\"arguments\": {\"x\": 1}}"}, {"from": "observation", "value": "4"}], "system": "S", "tools": "[{\"name\": \"f\"}]", "#
        + #""chosen": {"from": "gpt", "value": "good"}, "rejected": {"from": "gpt", "value": "bad"}}"#,
      pair(
        message("system", "S") + ", " + hi
          + #", {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "#
          + #""function": {"name": "f", "arguments": {"x": 1}}}]}, "# + message("tool", "4"), good, bad,
        #"{"tools": [{"name": "f"}]}"#)
    ),
    (#"{"instruction": "Hi", "input": "", "chosen": "good", "rejected": "bad"}"#, pair(hi, good, bad)),
    (
      #"{"instruction": "Do", "input": "this", "system": "S", "history": [["q", "a"]], "chosen": "good", "rejected": "bad"}"#,
      pair(
        [message("system", "S"), message("user", "q"), message("assistant", "a"), message("user", #"Do\nthis"#)]
          .joined(separator: ", "), good, bad)
    ),
    (
      #"{"instruction": "Hi", "input": null, "system": null, "history": null, "chosen": "good", "rejected": "bad"}"#,
      pair(hi, good, bad)
    ),
    (#"{"messages": [\#(hi), \#(good)], "rejected_response": "bad"}"#, pair(hi, good, bad)),
    (
      #"{"prompt": [\#(hi)], "chosen": [\#(good)], "rejected": [\#(bad)], "chat_template_kwargs": {"opening": "{"}}"#,
      pair(hi, good, bad, #"{"opening": "{"}"#)
    ),
  ]

  @Test(arguments: rows) func layoutsAreUnderstood(_ row: String, _ expected: String) throws {
    let example = try #require(try TemporaryFile(row).example())
    #expect(Array(example.json.utf8) == Array(expected.utf8), "\(example.json)")
  }

  /// A row, the kind of its defect and a word of the reason.
  static let defects: [(String, DataDefect.Kind, String)] = [
    (#"{"prompt": "p", "chosen": "c"}"#, .missingField, "'rejected'"),
    (#"{"prompt": "p", "chosen": null, "rejected": "r"}"#, .nullField, "'chosen'"),
    (#"{"prompt": "p", "chosen": "c", "rejected": 3}"#, .wrongType, "a number"),
    (#"{"prompt": "p", "chosen": "", "rejected": "r"}"#, .emptyCompletion, "'chosen'"),
    (#"{"prompt": "p", "chosen": "c", "rejected": ""}"#, .emptyCompletion, "'rejected'"),
    (#"{"prompt": "p", "chosen": "c", "rejected": "c"}"#, .identicalCompletions, "identical"),
    (#"{"chosen": "c", "rejected": "c"}"#, .identicalCompletions, "identical"),
    (#"{"question": "q", "reply": "r"}"#, .missingField, "'question'"),
    ("{}", .missingField, "neither"),
    (#"["prompt"]"#, .wrongType, "a list"),
    ("17", .wrongType, "a number"),
    (#"{"prompt": "p", "chosen": "c""#, .malformedJSON, "malformed"),
    (#"{"prompt": "p", "chosen": "c", "rejected": "r"} x"#, .malformedJSON, "malformed"),
    (#"{"prompt": [], "chosen": [\#(good)], "rejected": [\#(bad)]}"#, .emptyPrompt, "no message"),
    (#"{"prompt": [\#(hi)], "chosen": [], "rejected": [\#(bad)]}"#, .emptyCompletion, "'chosen'"),
    (
      #"{"prompt": [\#(hi)], "chosen": [\#(good)], "rejected": [{"role": "assistant", "content": ""}]}"#,
      .emptyCompletion, "'rejected'"
    ),
    (#"{"prompt": [\#(hi)], "chosen": [\#(good)], "rejected": [\#(good)]}"#, .identicalCompletions, "identical"),
    (#"{"prompt": [\#(hi)], "chosen": "good", "rejected": [\#(bad)]}"#, .wrongType, "expected a list of messages"),
    (#"{"prompt": [\#(hi)], "chosen": ["good"], "rejected": [\#(bad)]}"#, .wrongType, "message 1"),
    (#"{"prompt": [\#(hi)], "chosen": [{"content": "x"}], "rejected": [\#(bad)]}"#, .missingField, "'role'"),
    (#"{"prompt": [\#(hi)], "chosen": [{"role": "assistant"}], "rejected": [\#(bad)]}"#, .missingField, "'content'"),
    (
      #"{"prompt": [\#(hi)], "chosen": [{"role": "assistant", "content": null}], "rejected": [\#(bad)]}"#, .nullField,
      "'content'"
    ),
    (
      #"{"prompt": [\#(hi)], "chosen": [{"role": "assistant", "content": 1}], "rejected": [\#(bad)]}"#, .wrongType,
      "'content' is a number"
    ),
    (
      #"{"prompt": [\#(message("system", "S"))], "chosen": [\#(good)], "rejected": [\#(bad)]}"#, .invalidRole,
      "'system'"
    ),
    (#"{"chosen": [\#(good)], "rejected": [\#(bad)]}"#, .emptyPrompt, "same message"),
    (#"{"chosen": [\#(hi), \#(good)], "rejected": [\#(hi), \#(good)]}"#, .identicalCompletions, "identical"),
    (
      #"{"prompt": [\#(hi)], "chosen": [\#(good)], "rejected": [\#(bad)], "chat_template_kwargs": 1}"#, .wrongType,
      "chat_template_kwargs"
    ),
    (
      #"{"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "x"}], "#
        + #""chosen": {"from": "gpt", "value": "a"}, "rejected": {"from": "gpt", "value": "b"}}"#, .invalidRole,
      "end with"
    ),
    (
      #"{"conversations": [{"from": "gpt", "value": "Hi"}], "#
        + #""chosen": {"from": "gpt", "value": "a"}, "rejected": {"from": "gpt", "value": "b"}}"#, .invalidRole,
      "alternate"
    ),
    (
      #"{"conversations": [{"from": "robot", "value": "Hi"}], "#
        + #""chosen": {"from": "gpt", "value": "a"}, "rejected": {"from": "gpt", "value": "b"}}"#, .invalidRole,
      "'robot'"
    ),
    (
      #"{"conversations": [{"from": "human", "value": "Hi"}], "#
        + #""chosen": {"from": "human", "value": "a"}, "rejected": {"from": "gpt", "value": "b"}}"#, .invalidRole,
      "'chosen'"
    ),
    (
      #"{"conversations": [{"from": "human", "value": null}], "#
        + #""chosen": {"from": "gpt", "value": "a"}, "rejected": {"from": "gpt", "value": "b"}}"#, .nullField, "turn 1"
    ),
    (
      #"{"conversations": [{"from": "human", "value": "Hi"}], "chosen": "a", "rejected": {"from": "gpt", "value": "b"}}"#,
      .wrongType, "'chosen'"
    ),
    (
      #"{"conversations": [{"from": "human", "value": "<image>"}], "images": ["x.png"], "#
        + #""chosen": {"from": "gpt", "value": "a"}, "rejected": {"from": "gpt", "value": "b"}}"#, .wrongType,
      "'images'"
    ),
    (
      #"{"conversations": [{"from": "human", "value": "q"}, {"from": "function_call", "value": "f()"}, "#
        + #"{"from": "observation", "value": "1"}], "chosen": {"from": "gpt", "value": "a"}, "#
        + #""rejected": {"from": "gpt", "value": "b"}}"#, .malformedJSON, "turn 2"
    ),
    (#"{"instruction": "", "chosen": "a", "rejected": "b"}"#, .emptyPrompt, "empty"),
    (#"{"instruction": "x", "input": 3, "chosen": "a", "rejected": "b"}"#, .wrongType, "'input'"),
    (
      #"{"instruction": "x", "history": [["only one"]], "chosen": "a", "rejected": "b"}"#, .wrongType,
      "'history', turn 1"
    ),
    (#"{"messages": [\#(hi), \#(good)], "rejected_response": "good"}"#, .identicalCompletions, "identical"),
    (#"{"messages": [\#(hi)], "rejected_response": "bad"}"#, .invalidRole, "'user'"),
    (#"{"messages": [\#(hi), \#(good)]}"#, .missingField, "'rejected_response'"),
  ]

  @Test(arguments: defects) func defectsAreNamed(_ row: String, _ kind: DataDefect.Kind, _ word: String) throws {
    let file = try TemporaryFile("\n" + row + "\n")
    let defect = try #require(try file.examples().first?.failure)
    #expect(defect.kind == kind)
    #expect(defect.description.hasPrefix("\(file.path):2: "))
    #expect(defect.reason.contains(word), "\(defect)")
  }

  /// Marks out of order, as many as a row can hold: comparing such texts as Swift's `==` does takes hours.
  static let marks = String(repeating: "\u{0301}", count: 1_500_000) + String(repeating: "\u{0316}", count: 1_500_000)

  @Test(arguments: [
    #"{"prompt": [{"role": "MARKS", "content": "x"}], "chosen": [\#(good)], "rejected": [\#(bad)]}"#,
    #"{"conversations": [{"from": "MARKS", "value": "Hi"}], "chosen": {"from": "gpt", "value": "good"}, "#
      + #""rejected": {"from": "gpt", "value": "bad"}}"#,
    #"{"messages": [\#(hi), {"role": "MARKS", "content": "x"}], "rejected_response": "bad"}"#,
  ]) func rolesAreComparedAsBytes(_ row: String) throws {
    let file = try TemporaryFile(row.replacing("MARKS", with: Self.marks))
    #expect(try file.examples().first?.failure?.kind == .invalidRole)
  }

  /// Looking each key up among all takes hours.
  @Test func messagesOfManyMembersAreCompared() throws {
    let keys = (0..<300_000).map { #""k\#($0)": 0"# }
    func message(_ keys: [String]) -> String {
      #"{"role": "assistant", "content": "same", "# + keys.joined(separator: ", ") + "}"
    }
    let file = try TemporaryFile(
      #"{"prompt": [\#(Self.hi)], "chosen": [\#(message(keys))], "rejected": [\#(message(keys.reversed()))]}"#)
    #expect(try file.examples().first?.failure?.kind == .identicalCompletions)
  }

  @Test func theFirstGoodRowSetsTheLayout() throws {
    let file = try TemporaryFile(
      """
      {"prompt": 3, "chosen": "a", "rejected": "b"}
      {"chosen": "xa", "rejected": "xb"}
      {"prompt": "x", "chosen": "a", "rejected": "b"}
      {"chosen": [], "rejected": []}
      {"chosen": "xc", "rejected": "xd"}
      """)
    for threads in [1, 3] {
      let examples = try file.examples(threads: threads)
      #expect(examples.map { $0.failure?.kind } == [.wrongType, nil, .differentLayout, .wrongType, nil])
      #expect(examples.map { $0.failure?.line } == [1, nil, 3, 4, nil])
    }
  }
}
