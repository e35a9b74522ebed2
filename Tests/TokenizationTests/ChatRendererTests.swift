import Foundation
import JSON
import Testing
import Tokenization

@Suite struct ChatRendererTests {
  /// Equal to transformers' renders, error messages included; only errors that transformers itself raises about
  /// `continue_final_message` are worded here.
  @Test func rendersEqualTransformers() throws { try Self.check(Golden.folder + "/golden_chat.json", templates: nil) }

  /// Real templates, on request: see `TokenizerTests.realFamilyEqualsHuggingFace`.
  @Test(arguments: realGoldens) func realTemplatesEqualTransformers(_ path: String) throws {
    try Self.check(path, templates: (path as NSString).deletingLastPathComponent)
  }

  private static let realGoldens: [String] = {
    guard let root = ProcessInfo.processInfo.environment["ORPO_DIST_TOKENIZER_GOLDENS"] else { return [] }
    let all = FileManager.default.enumerator(atPath: root)?.compactMap { $0 as? String } ?? []
    return all.filter { $0.hasSuffix("/golden_chat.json") }.sorted().map { root + "/" + $0 }
  }()

  /// - Parameter templates: the folder of templates that the golden file names but does not hold.
  private static func check(_ path: String, templates: String?) throws {
    let golden = try Golden.read(path)
    let renderer = try ChatRenderer.start(clock: golden["now"]?.string)
    let variables = Dictionary(
      (golden["special_tokens"]?.object?.members ?? []).compactMap { member in
        member.value.string.map { (member.key, $0) }
      },
      uniquingKeysWith: { first, _ in first })
    var requests: [ChatRequest] = []
    var rows: [JSONValue] = []
    for (name, template) in try #require(golden["templates"]?.object?.members) {
      let source =
        try template["template"]?.string ?? String(contentsOfFile: "\(templates ?? "")/\(name)", encoding: .utf8)
      for row in try #require(template["results"]?.array) {
        requests.append(
          ChatRequest(
            template: source, messages: try #require(golden["conversations"]?[row["conversation"]?.string ?? ""]),
            addGenerationPrompt: row["add_generation_prompt"]?.bool ?? false,
            continueFinalMessage: row["continue_final_message"]?.bool ?? false, variables: variables,
            tools: row["tools"]?.bool == true ? golden["tools"] : nil,
            extra: row["kwargs"]?.object ?? JSONObject()))
        rows.append(row)
      }
    }
    for (result, row) in zip(try renderer.render(requests), rows) {
      let label = "\(row["conversation"]?.string ?? "") \(row["add_generation_prompt"]?.bool ?? false)"
      switch result {
      case .success(let text):
        #expect(row["text"]?.string.map { Array($0.utf8) } == Array(text.utf8), "\(label)")
      case .failure(let error):
        #expect(error.type == row["error"]?.string, "\(label): \(error)")
        let ours = error.type == "ValueError" || error.message.hasPrefix("a namespace cannot hold")
        if !ours { #expect(error.message == row["message"]?.string, "\(label)") }
      }
    }
  }

  private static let messages: JSONValue = [["role": "user", "content": "Hi"]]

  @Test func aRenderWithoutEndIsStopped() throws {
    let renderer = try ChatRenderer.start(timeLimit: 0.3)
    let endless = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    #expect {
      try renderer.render(template: endless, messages: Self.messages)
    } throws: { ($0 as? ChatTemplateError)?.type == "TimeoutError" }
    // Python cannot interrupt one huge multiplication: the process is replaced, and other renders go on.
    let stuck = "{{ (7 ** 9999999) ** 9 }}"
    let results = try renderer.render([
      ChatRequest(template: "{{ messages[0].content }}", messages: Self.messages),
      ChatRequest(template: stuck, messages: Self.messages),
      ChatRequest(template: "{{ messages[0].role }}", messages: Self.messages),
    ])
    #expect(results[0] == .success("Hi"))
    #expect(throws: ChatTemplateError.self) { try results[1].get() }
    #expect(results[2] == .success("user"))
  }

  @Test func memoryIsLimited() throws {
    let renderer = try ChatRenderer.start(memoryLimit: 1 << 28)
    #expect {
      try renderer.render(template: "{{ 'x' * 1000000000 }}", messages: Self.messages)
    } throws: { ($0 as? ChatTemplateError)?.type == "MemoryError" }
    #expect(try renderer.render(template: "{{ 1 + 1 }}", messages: Self.messages) == "2")
  }

  /// What untrusted templates try: refused, or nothing comes of it.
  @Test(arguments: [
    "{{ ''.__class__.__mro__ }}", "{{ messages.__init__.__globals__ }}", "{{ raise_exception.__globals__ }}",
    "{{ '{0.__class__}'.format(messages) }}", "{{ '{m.__class__}'.format_map({'m': messages}) }}",
    "{{ strftime_now.__globals__['__builtins__'] }}", "{{ namespace(__class__=1) }}",
    "{{ ('%s' | attr('__class__')) }}",
    "{{ ('{0.__class__}' | attr('format'))(messages) }}", "{% set messages.x = 1 %}", "{{ messages.clear() }}",
    "{{ messages.pop() }}", "{% set f = '{0.__class__}'.format %}{{ f(messages) }}",
    "{{ messages[0].update({}) }}", "{{ dict.__class__ }}", "{{ self._TemplateReference__context }}",
  ])
  func sandboxHolds(_ template: String) throws {
    let renderer = try ChatRenderer.start()
    let results = try renderer.render([ChatRequest(template: template, messages: Self.messages)])
    switch results[0] {
    case .success(let text): #expect(text == "")
    case .failure(let error):
      #expect(["SecurityError", "UndefinedError", "TemplateRuntimeError"].contains(error.type), "\(error)")
    }
  }

  /// More than one way to the end of a run: each is an error with the limit's name.
  @Test(arguments: [
    ("{{ range(10**9)|list }}", "OverflowError"), ("{{ lipsum(n=100000) }}", "UndefinedError"),
    ("{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}", "RecursionError"),
    ("{{ 'x' * 3000000 }}", "TooLong"), ("{{ raise_exception('x' * 100000) }}", "TemplateError"),
    ("{{ ['{0.__class__}'.format]|map('call')|list }}", "TemplateRuntimeError"),
    ("{{ cycler.__init__.__globals__ }}", "SecurityError"), ("{{ joiner.__class__.__mro__ }}", "SecurityError"),
    ("{% import 'os' as os %}", "TypeError"), ("{% extends '/etc/passwd' %}", "TypeError"),
  ])
  func excessIsStopped(_ template: String, _ type: String) throws {
    let renderer = try ChatRenderer.start(outputLimit: 1 << 21)
    let results = try renderer.render([ChatRequest(template: template, messages: Self.messages)])
    guard case .failure(let error) = results[0] else {
      Issue.record("\(template) was rendered")
      return
    }
    #expect(error.type == type, "\(error)")
    #expect(error.message.utf8.count <= 4000)
  }

  @Test func deepConversationsDoNotEndTheHelper() throws {
    let renderer = try ChatRenderer.start()
    var deep: JSONValue = "x"
    for _ in 0..<1500 { deep = [deep] }
    let results = try renderer.render(
      (0..<5).map { _ in
        ChatRequest(template: "{{ messages[0].content }}", messages: [["role": "user", "content": deep]])
      }
        + [ChatRequest(template: "{{ messages[0].role }}", messages: Self.messages)])
    for result in results.dropLast() {
      guard case .failure(let error) = result else {
        Issue.record("a conversation of 1500 levels was rendered")
        continue
      }
      #expect(error.type == "RecursionError")
    }
    #expect(results.last == .success("user"))
  }

  /// A template that is stopped again and again is an error of its file, not of every row.
  @Test func aTemplateThatIsStoppedAgainAndAgainEndsTheRun() throws {
    let renderer = try ChatRenderer.start(outputLimit: 1000)
    let request = ChatRequest(
      template: "{{ 'x' * 1001 }}", templateOrigin: "model/chat_template.jinja", messages: Self.messages)
    _ = try renderer.render([request])
    _ = try renderer.render([request])
    let error = #expect(throws: ChatRendererError.self) { try renderer.render([request, request]) }
    #expect(error?.description.hasPrefix("model/chat_template.jinja: the chat template was stopped 3 times") == true)
    #expect(try renderer.render(template: "{{ 1 }}", messages: Self.messages) == "1")
  }

  #if arch(x86_64) || arch(arm64)
    @Test func systemCallsAreFiltered() throws {
      #expect(try ChatRenderer.start().systemCallsAreFiltered)
    }
  #endif

  /// The process that runs templates can open nothing, whatever a template gets hold of.
  @Test func helperCannotOpenFiles() throws {
    let renderer = try ChatRenderer.start()
    #expect {
      try renderer.render(template: "{% include '/etc/hostname' %}", messages: Self.messages)
    } throws: { ($0 as? ChatTemplateError)?.type == "TypeError" }
  }

  @Test func longTextsPassWhole() throws {
    let renderer = try ChatRenderer.start()
    let long = String(repeating: "\u{e9}\n\u{1F600}\"\\", count: 200_000)
    let messages: JSONValue = [["role": "user", "content": .string(long)]]
    let results = try renderer.render(
      Array(repeating: ChatRequest(template: "{{ messages[0].content }}", messages: messages), count: 4))
    for result in results { #expect(Array(try result.get().utf8) == Array(long.utf8)) }
  }

  @Test func stoppedHelperStartsAgain() throws {
    let renderer = try ChatRenderer.start()
    renderer.stop()
    #expect(try renderer.render(template: "{{ bos }}", messages: Self.messages, variables: ["bos": "<s>"]) == "<s>")
  }

  /// The built-in vocabulary's template and the tokenizer agree.
  @Test func byteTemplate() throws {
    let tokenizer = try Tokenizer.bytes()
    let renderer = try ChatRenderer.start()
    let text = try renderer.render(
      template: try #require(tokenizer.chatTemplate), messages: Self.messages, addGenerationPrompt: true,
      variables: tokenizer.templateVariables)
    #expect(text == "<|bos|>user\nHi<|eos|>\n<|bos|>assistant\n")
    #expect(try tokenizer.encode(text).filter { $0 > 255 } == [256, 257, 256])
  }
}
