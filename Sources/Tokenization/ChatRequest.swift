package import JSON

/// One chat to render.
package struct ChatRequest: Sendable {
  /// The Jinja template (`Tokenizer.chatTemplate`).
  package var template: String
  /// Where the template was read, for errors about it (`Tokenizer.chatTemplateOrigin`).
  package var templateOrigin: String?
  /// A list of messages, each an object with `role` and `content`.
  package var messages: JSONValue
  package var addGenerationPrompt: Bool
  /// End after the text of the final message, so that the model goes on with it.
  package var continueFinalMessage: Bool
  /// The special tokens a template may name (`Tokenizer.templateVariables`).
  package var variables: [String: String]
  /// A list of JSON schemas, or nil.
  package var tools: JSONValue?
  /// Further template variables, such as `enable_thinking`; they win over `variables`.
  package var extra: JSONObject

  package init(
    template: String, templateOrigin: String? = nil, messages: JSONValue, addGenerationPrompt: Bool = false,
    continueFinalMessage: Bool = false, variables: [String: String] = [:], tools: JSONValue? = nil,
    extra: JSONObject = JSONObject()
  ) {
    self.template = template
    self.templateOrigin = templateOrigin
    self.messages = messages
    self.addGenerationPrompt = addGenerationPrompt
    self.continueFinalMessage = continueFinalMessage
    self.variables = variables
    self.tools = tools
    self.extra = extra
  }

  /// The request as the helper reads it, the template by number.
  func line(template number: Int) -> String {
    // A row may set very many.
    let taken = Set(extra.members.map { Array($0.key.utf8) })
    let others = variables.filter { !taken.contains(Array($0.key.utf8)) }
    let all = JSONObject(others.map { (key: $0.key, value: .string($0.value)) } + extra.members)
    let request: JSONValue = [
      "template": .integer(number), "messages": messages, "generation": .bool(addGenerationPrompt),
      "continue": .bool(continueFinalMessage), "tools": tools ?? .null, "variables": .object(all),
    ]
    return request.serialized() + "\n"
  }
}

/// What a template raised while rendering, in Python's words: the same as transformers raises.
package struct ChatTemplateError: Error, CustomStringConvertible, Equatable {
  /// The exception's class, such as `TemplateError` or `UndefinedError`.
  package var type: String
  package var message: String

  package var description: String { "the chat template failed: \(type): \(message)" }

  /// Whether the render was stopped at one of its limits, of time, memory or length, rather than by an error of its own.
  package var isLimit: Bool { ["TimeoutError", "MemoryError", "TooLong", "HelperEnded"].contains(type.possibleName) }
}

/// Why chat templates cannot be rendered at all.
package struct ChatRendererError: Error, CustomStringConvertible, Equatable {
  package var description: String
}
