internal import JSON

// The layouts LLaMA-Factory documents for preference data, as messages with Hugging Face's roles.

extension RowLayout {
  /// `conversations` hold the turns up to the reply: people (or tool results) at odd places, the model at even ones,
  /// and optionally a system message first; `chosen` and `rejected` are the reply.
  static func shareGPT(_ row: JSONObject) throws(RowProblem) -> PreferenceExample.Content {
    try requireNoMedia(row)
    var prompt: [JSONValue] = []
    let turns = try row.list("conversations", of: "objects with 'from' and 'value'")
    for (index, turn) in turns.enumerated() {
      prompt.append(try message(turn, "'conversations', turn \(index + 1)"))
    }
    let system = try row.optionalText("system")
    let hasSystemTurn = prompt.first?["role"]?.isText("system") ?? false
    if !system.isEmpty && !hasSystemTurn { prompt.insert(["role": "system", "content": .string(system)], at: 0) }
    for (index, message) in prompt.drop(while: { $0["role"]?.isText("system") ?? false }).enumerated() {
      let role = message["role"]?.string ?? ""
      let expected = index % 2 == 0 ? ["user", "tool"] : ["assistant"]
      guard let name = role.possibleName, expected.contains(name) else {
        throw RowProblem(
          .invalidRole,
          "'conversations', turn \(index + 1 + (hasSystemTurn ? 1 : 0)): role '\(role)', expected "
            + (index % 2 == 0 ? "'human' or 'observation'" : "'gpt' or 'function_call'") + ": turns alternate")
      }
    }
    guard !(prompt.last?["role"]?.isText("assistant") ?? false) else {
      throw RowProblem(.invalidRole, "'conversations' end with the model's turn, expected the turn that is replied to")
    }
    var replies: [JSONValue] = []
    for key in ["chosen", "rejected"] {
      let reply = try message(row.required(key), "'\(key)'")
      guard reply["role"]?.isText("assistant") ?? false else {
        throw RowProblem(
          .invalidRole, "'\(key)' is from '\(reply["role"]?.string ?? "")', expected 'gpt' or 'function_call'")
      }
      replies.append(reply)
    }
    return try conversation(prompt, [replies[0]], [replies[1]], arguments: row.toolArguments())
  }

  /// The user's message is the instruction and, on a new line, the input; `history` is a list of (question, reply)
  /// before it.
  static func alpaca(_ row: JSONObject) throws(RowProblem) -> PreferenceExample.Content {
    try requireNoMedia(row)
    var prompt: [JSONValue] = []
    let system = try row.optionalText("system")
    if !system.isEmpty { prompt.append(["role": "system", "content": .string(system)]) }
    if let history = row["history"], !history.isNull {
      for (index, turn) in try row.list("history", of: "[question, reply] lists").enumerated() {
        let texts = turn.array?.compactMap(\.string) ?? []
        guard texts.count == 2, turn.array?.count == 2 else {
          throw RowProblem(
            .wrongType, "'history', turn \(index + 1): expected a list of two strings, question and reply")
        }
        prompt.append(["role": "user", "content": .string(texts[0])])
        prompt.append(["role": "assistant", "content": .string(texts[1])])
      }
    }
    let parts = try [row.text("instruction"), row.optionalText("input")].filter { !$0.isEmpty }
    guard !parts.isEmpty else { throw RowProblem(.emptyPrompt, "'instruction' and 'input' are both empty") }
    prompt.append(["role": "user", "content": .string(parts.joined(separator: "\n"))])
    let chosen = try row.text("chosen")
    let rejected = try row.text("rejected")
    try requireCompletions(chosen, rejected)
    return try conversation(prompt, [reply(chosen)], [reply(rejected)], arguments: row.toolArguments())
  }

  /// The last of `messages` is the chosen reply, `rejected_response` the text to put in its place.
  static func rejectedResponse(_ row: JSONObject) throws(RowProblem) -> PreferenceExample.Content {
    try requireNoMedia(row)
    let messages = try row.messages("messages")
    let rejected = try row.text("rejected_response")
    guard let chosen = messages.last else { throw RowProblem(.emptyCompletion, "'messages' is empty") }
    guard chosen["role"]?.isText("assistant") ?? false else {
      throw RowProblem(
        .invalidRole,
        "'messages' end with role '\(chosen["role"]?.string ?? "")', expected the chosen reply of 'assistant'")
    }
    if let text = chosen["content"]?.string { try requireCompletions(text, rejected) }
    return try conversation(
      Array(messages.dropLast()), [chosen], [reply(rejected)],
      arguments: row.toolArguments())
  }

  private static func reply(_ text: String) -> JSONValue { ["role": "assistant", "content": .string(text)] }

  /// `{from, value}` as `{role, content}`; a function call becomes the `tool_calls` that chat templates know.
  private static func message(_ turn: JSONValue, _ place: String) throws(RowProblem) -> JSONValue {
    guard let object = turn.object else {
      throw RowProblem(.wrongType, "\(place) is \(turn.typeName), expected an object with 'from' and 'value'")
    }
    var texts: [String] = []
    for key in ["from", "value"] {
      guard let value = object[key] else { throw RowProblem(.missingField, "\(place): '\(key)' is missing") }
      if value.isNull { throw RowProblem(.nullField, "\(place): '\(key)' is null") }
      guard let text = value.string else {
        throw RowProblem(.wrongType, "\(place): '\(key)' is \(value.typeName), expected a string")
      }
      texts.append(text)
    }
    let content = JSONValue.string(texts[1])
    switch texts[0].possibleName {
    case "human", "user": return ["role": "user", "content": content]
    case "gpt", "assistant": return ["role": "assistant", "content": content]
    case "system": return ["role": "system", "content": content]
    case "observation", "tool": return ["role": "tool", "content": content]
    case "function_call":
      return ["role": "assistant", "content": "", "tool_calls": .array(try functionCalls(texts[1], place))]
    default:
      throw RowProblem(
        .invalidRole,
        "\(place): unknown 'from' value '\(texts[0])', expected human, gpt, system, function_call or observation")
    }
  }

  private static func functionCalls(_ text: String, _ place: String) throws(RowProblem) -> [JSONValue] {
    let value: JSONValue
    do throws(JSONError) { value = try JSONValue(parsing: text) } catch {
      throw RowProblem(.malformedJSON, "\(place): the function call is \(error)")
    }
    let calls = value.array ?? [value]
    for call in calls where call["name"]?.string == nil || call["arguments"] == nil {
      throw RowProblem(.wrongType, "\(place): a function call needs 'name' and 'arguments'")
    }
    return calls.map { ["type": "function", "function": $0] }
  }

  private static func requireNoMedia(_ row: JSONObject) throws(RowProblem) {
    for key in ["images", "videos", "audios"] {
      switch row[key] {
      case nil, .null: continue
      case .array(let elements) where elements.isEmpty: continue
      default: throw RowProblem(.wrongType, "field '\(key)' is set: only text can be trained on")
      }
    }
  }
}

extension JSONObject {
  /// Template variables of a LLaMA-Factory row: its `tools`, a JSON text or a list.
  fileprivate func toolArguments() throws(RowProblem) -> JSONObject {
    var arguments = try templateArguments()
    switch self["tools"] {
    case nil, .null: break
    case .array(let tools): if !tools.isEmpty { arguments["tools"] = .array(tools) }
    case .string(let text):
      if text.utf8.allSatisfy({ $0 <= 0x20 }) { break }
      let tools: JSONValue
      do throws(JSONError) { tools = try JSONValue(parsing: text) } catch {
        throw RowProblem(.malformedJSON, "field 'tools' is \(error)")
      }
      guard let list = tools.array else {
        throw RowProblem(.wrongType, "field 'tools' holds \(tools.typeName), expected a list of tools")
      }
      if !list.isEmpty { arguments["tools"] = tools }
    case .some(let value):
      throw RowProblem(.wrongType, "field 'tools' is \(value.typeName), expected a list of tools")
    }
    return arguments
  }
}
