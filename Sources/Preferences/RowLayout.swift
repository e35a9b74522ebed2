internal import JSON

/// How a file's rows spell a preference pair. Detected from the first good row, then required of every row of the file.
package enum RowLayout: String, Sendable, CaseIterable {
  /// `prompt`, `chosen`, `rejected`: strings.
  case explicitText = "explicit prompt"
  /// `prompt`, `chosen`, `rejected`: lists of messages.
  case explicitMessages = "explicit conversational prompt"
  /// `chosen`, `rejected`: strings that begin alike.
  case implicitText = "implicit prompt"
  /// `chosen`, `rejected`: lists of messages that begin alike. A `prompt` string beside them repeats the first message
  /// and is not used.
  case implicitMessages = "implicit conversational prompt"
  /// `conversations` of `{from, value}`; `chosen` and `rejected` one such object each.
  case shareGPT = "sharegpt"
  /// `instruction`, `input`, `chosen`, `rejected`, with optional `system` and `history`.
  case alpaca = "alpaca"
  /// `messages` that end with the chosen reply; `rejected_response`.
  case rejectedResponse = "messages and rejected_response"

  /// Examples or defects of `rows`, in order. Sets `layout` at the first good row.
  static func examples(
    _ rows: [SourceRow], layout: inout RowLayout?, threads: Int
  ) -> [Result<PreferenceExample, DataDefect>] {
    var examples: [Result<PreferenceExample, DataDefect>] = []
    for row in rows where layout == nil {
      let example = row.parsed().flatMap { object in
        row.described { () throws(RowProblem) in
          let candidate = try RowLayout(detectedFrom: object)
          let content = try candidate.content(object)
          layout = candidate
          return content
        }
      }
      examples.append(example)
    }
    guard let layout else { return examples }
    return examples
      + parallelMap(Array(rows[examples.count...]), threads: threads) { row in
        row.parsed().flatMap { object in row.described { () throws(RowProblem) in try layout.content(object) } }
      }
  }

  init(detectedFrom row: JSONObject) throws(RowProblem) {
    func has(_ key: String) -> Bool { row[key].map { !$0.isNull } ?? false }
    if has("conversations") {
      self = .shareGPT
    } else if has("messages") && (has("rejected_response") || !has("chosen")) {
      self = .rejectedResponse
    } else if has("instruction") && !has("prompt") {
      self = .alpaca
    } else if has("prompt") {
      switch (row["prompt"], row["chosen"]) {
      case (.array?, _): self = .explicitMessages
      case (_, .array?): self = .implicitMessages
      default: self = .explicitText
      }
    } else {
      guard has("chosen") || has("rejected") else {
        let keys = row.members.map { "'\($0.key)'" }.joined(separator: ", ")
        throw RowProblem(
          .missingField,
          "neither 'chosen' nor 'rejected' is there\(keys.isEmpty ? "" : ", only \(keys)"); expected "
            + "prompt/chosen/rejected, conversations/chosen/rejected, instruction/chosen/rejected or messages/rejected_response"
        )
      }
      if case .array? = row["chosen"] { self = .implicitMessages } else { self = .implicitText }
    }
  }

  /// The row's pair, if it has this layout.
  func content(_ row: JSONObject) throws(RowProblem) -> PreferenceExample.Content {
    switch self {
    case .explicitText: try Self.explicitText(row)
    case .explicitMessages: try Self.explicitMessages(row)
    case .implicitText: try Self.implicitText(row)
    case .implicitMessages: try Self.implicitMessages(row)
    case .shareGPT: try Self.shareGPT(row)
    case .alpaca: try Self.alpaca(row)
    case .rejectedResponse: try Self.rejectedResponse(row)
    }
  }
}

extension SourceRow {
  func described(
    _ content: () throws(RowProblem) -> PreferenceExample.Content
  ) -> Result<PreferenceExample, DataDefect> {
    do throws(RowProblem) {
      return .success(PreferenceExample(location: location, content: try content()))
    } catch {
      return .failure(DataDefect(error.kind, at: location, error.reason))
    }
  }
}

// MARK: - TRL's layouts

extension RowLayout {
  private static func explicitText(_ row: JSONObject) throws(RowProblem) -> PreferenceExample.Content {
    let prompt = try row.text("prompt")
    let chosen = try row.text("chosen")
    let rejected = try row.text("rejected")
    try requireCompletions(chosen, rejected)
    return .text(prompt: prompt, chosen: chosen, rejected: rejected)
  }

  private static func explicitMessages(_ row: JSONObject) throws(RowProblem) -> PreferenceExample.Content {
    let prompt = try row.messages("prompt")
    let chosen = try row.messages("chosen")
    let rejected = try row.messages("rejected")
    return try conversation(prompt, chosen, rejected, arguments: row.templateArguments())
  }

  /// TRL's `extract_prompt` on characters: the common beginning, without a space at its end. When one text is the
  /// beginning of the other, the last common character stays with the completions so that neither is empty.
  private static func implicitText(_ row: JSONObject) throws(RowProblem) -> PreferenceExample.Content {
    try requireNoPrompt(row)
    let chosen = try row.text("chosen")
    let rejected = try row.text("rejected")
    try requireCompletions(chosen, rejected)
    var length = chosen.commonPrefixLength(with: rejected)
    let prefix = chosen.split(atByte: length).before
    if length == min(chosen.utf8.count, rejected.utf8.count) {
      length -= prefix.unicodeScalars.last.map { UTF8.width($0) } ?? 0
    } else if prefix.utf8.last == UInt8(ascii: " ") {
      length -= 1
    }
    let (prompt, chosenRest) = chosen.split(atByte: length)
    return .text(prompt: prompt, chosen: chosenRest, rejected: rejected.split(atByte: length).after)
  }

  /// The same rule on whole messages.
  private static func implicitMessages(_ row: JSONObject) throws(RowProblem) -> PreferenceExample.Content {
    if let prompt = row["prompt"], !prompt.isNull, prompt.string == nil {
      throw RowProblem(.differentLayout, "'prompt' is \(prompt.typeName), the rows before have none, or a string")
    }
    let chosen = try row.messages("chosen")
    let rejected = try row.messages("rejected")
    var shared = 0
    while shared < min(chosen.count, rejected.count), chosen[shared].isSame(as: rejected[shared]) { shared += 1 }
    if shared == chosen.count && shared == rejected.count && shared > 0 { throw identical }
    if shared > 0 && shared == min(chosen.count, rejected.count) { shared -= 1 }
    if shared == 0 && !chosen.isEmpty && !rejected.isEmpty {
      throw RowProblem(.emptyPrompt, "'chosen' and 'rejected' do not begin with the same message: there is no prompt")
    }
    return try conversation(
      Array(chosen[..<shared]), Array(chosen[shared...]), Array(rejected[shared...]), arguments: row.templateArguments()
    )
  }

  private static func requireNoPrompt(_ row: JSONObject) throws(RowProblem) {
    if let prompt = row["prompt"], !prompt.isNull {
      throw RowProblem(.differentLayout, "the row has a 'prompt', the rows before have none")
    }
  }
}

// MARK: - Checks that all layouts share

extension RowLayout {
  static var identical: RowProblem { RowProblem(.identicalCompletions, "'chosen' and 'rejected' are identical") }

  static func requireCompletions(_ chosen: String, _ rejected: String) throws(RowProblem) {
    for (name, text) in [("chosen", chosen), ("rejected", rejected)] where text.isEmpty {
      throw RowProblem(.emptyCompletion, "'\(name)' is empty")
    }
    if chosen.hasSameBytes(as: rejected) { throw identical }
  }

  /// A conversational pair, checked: a prompt the template can open a reply after, and two different replies that say
  /// something.
  static func conversation(
    _ prompt: [JSONValue], _ chosen: [JSONValue], _ rejected: [JSONValue], arguments: JSONObject
  ) throws(RowProblem) -> PreferenceExample.Content {
    for (name, messages) in [("chosen", chosen), ("rejected", rejected)]
    where !messages.contains(where: \.saysSomething) {
      throw RowProblem(.emptyCompletion, "'\(name)' is empty")
    }
    if JSONValue.array(chosen).isSame(as: .array(rejected)) { throw identical }
    guard let last = prompt.last else { throw RowProblem(.emptyPrompt, "the prompt has no message") }
    let role = last["role"]?.string ?? ""
    guard let name = role.possibleName, ["user", "tool", "assistant"].contains(name) else {
      throw RowProblem(
        .invalidRole, "the prompt ends with role '\(role)', expected 'user', 'tool', or 'assistant' to be continued")
    }
    return .messages(prompt: prompt, chosen: chosen, rejected: rejected, templateArguments: arguments)
  }
}

extension JSONValue {
  /// Whether a message has any text, part or tool call.
  fileprivate var saysSomething: Bool {
    if let calls = self["tool_calls"]?.array, !calls.isEmpty { return true }
    return switch self["content"] {
    case .string(let text): !text.isEmpty
    case .array(let parts): !parts.isEmpty
    default: false
    }
  }
}

extension JSONObject {
  func required(_ key: String) throws(RowProblem) -> JSONValue {
    guard let value = self[key] else { throw RowProblem(.missingField, "field '\(key)' is missing") }
    if value.isNull { throw RowProblem(.nullField, "field '\(key)' is null") }
    return value
  }

  func text(_ key: String) throws(RowProblem) -> String {
    let value = try required(key)
    guard let text = value.string else {
      throw RowProblem(.wrongType, "field '\(key)' is \(value.typeName), expected a string")
    }
    return text
  }

  /// A text that may be absent or null.
  func optionalText(_ key: String) throws(RowProblem) -> String {
    if let value = self[key], !value.isNull { try text(key) } else { "" }
  }

  func list(_ key: String, of what: String) throws(RowProblem) -> [JSONValue] {
    let value = try required(key)
    guard let elements = value.array else {
      throw RowProblem(.wrongType, "field '\(key)' is \(value.typeName), expected a list of \(what)")
    }
    return elements
  }

  /// A list of messages with `role` and `content`.
  func messages(_ key: String) throws(RowProblem) -> [JSONValue] {
    let messages = try list(key, of: "messages")
    for (index, message) in messages.enumerated() {
      func wrong(_ reason: String) -> RowProblem { RowProblem(.wrongType, "'\(key)', message \(index + 1): \(reason)") }
      guard let object = message.object else {
        throw wrong("\(message.typeName), expected an object with role and content")
      }
      guard let role = object["role"] else {
        throw RowProblem(.missingField, "'\(key)', message \(index + 1): 'role' is missing")
      }
      guard role.string != nil else { throw wrong("'role' is \(role.typeName), expected a string") }
      switch object["content"] {
      case .string, .array: break
      case nil, .null:
        guard let calls = object["tool_calls"]?.array, !calls.isEmpty else {
          let isThere = object["content"] != nil
          throw RowProblem(
            isThere ? .nullField : .missingField,
            "'\(key)', message \(index + 1): 'content' is \(isThere ? "null" : "missing")")
        }
      case .some(let content): throw wrong("'content' is \(content.typeName), expected a string")
      }
    }
    return messages
  }

  /// TRL's `chat_template_kwargs`: variables a row sets for the chat template.
  func templateArguments() throws(RowProblem) -> JSONObject {
    guard let value = self["chat_template_kwargs"], !value.isNull else { return JSONObject() }
    guard let object = value.object else {
      throw RowProblem(.wrongType, "field 'chat_template_kwargs' is \(value.typeName), expected an object")
    }
    return object
  }
}
