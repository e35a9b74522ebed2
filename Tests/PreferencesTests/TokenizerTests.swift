import Foundation
import Packing
import Preferences
import Testing
import Tokenization

/// The pipeline on a real tokenizer and a real template.
@Suite struct TokenizerTests {
  /// A byte-level tokenizer's folder with a template that shows what it is given.
  static func tokenizer(template: String?) throws -> Tokenizer {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("orpo-dist-" + UUID().uuidString)
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: false)
    defer { try? FileManager.default.removeItem(at: folder) }
    for (name, bytes) in try Tokenizer.bytes().files() where template != nil || name != "chat_template.jinja" {
      try Data(bytes).write(to: folder.appendingPathComponent(name))
    }
    if let template { try Data(template.utf8).write(to: folder.appendingPathComponent("chat_template.jinja")) }
    return try Tokenizer(directory: folder.path)
  }

  static let template =
    "{% if tools %}tools:{{ tools[0].name }}\n{% endif %}{% if mood is defined %}{{ mood }}\n{% endif %}"
    + "{% for m in messages %}{% if m.content == 'raise' %}{{ raise_exception('no') }}{% endif %}"
    + "{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"

  @Test func conversationsAreRenderedAndTokenized() throws {
    let tokenizer = try Self.tokenizer(template: Self.template)
    let renderer = try ChatRenderer.start()
    defer { renderer.stop() }
    func row(_ tools: String, _ chosen: String) -> String {
      #"{"conversations": [{"from": "human", "value": "Hi"}], "tools": \#(tools), "chat_template_kwargs": {"mood": "calm"}, "#
        + #""chosen": {"from": "gpt", "value": "\#(chosen)"}, "rejected": {"from": "gpt", "value": "no"}}"#
    }
    let file = try TemporaryFile(
      [row("null", "yes"), row(#"[{"name": "f"}]"#, "é"), row("[]", "raise")].joined(separator: "\n"))
    let data = try PreferenceDataset.load(
      files: [file.path], encoding: TextEncoding(tokenizer), chat: renderer.rendering(for: tokenizer), threads: 2)
    let prompts = ["calm\nuser: Hi\nassistant: ", "tools:f\ncalm\nuser: Hi\nassistant: "]
    #expect(data.pairs.count == 2)
    for (pair, (prompt, completion)) in zip(data.pairs, zip(prompts, ["yes\n", "é\n"])) {
      #expect(tokenizer.decode(pair.chosen, skipSpecialTokens: true) == prompt + completion)
      let kept = Array(pair.chosen[..<pair.chosenPromptLength])
      #expect(tokenizer.decode(kept, skipSpecialTokens: true) == prompt)
      #expect(pair.chosen.last == tokenizer.eosTokenID)
    }
    #expect(data.report.defects.map(\.kind) == [.chatTemplate])
    #expect(data.report.defects.first?.reason.contains("no") == true)
  }
}
