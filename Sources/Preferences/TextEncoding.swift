package import JSON

/// What the pipeline needs of a tokenizer: text to ids without automatic special tokens, and the two it adds itself.
package struct TextEncoding: Sendable {
  package var encode: @Sendable (String) throws -> [Int32]
  package var bosTokenID: Int32?
  package var eosTokenID: Int32?

  package init(
    bosTokenID: Int32?, eosTokenID: Int32?, encode: @escaping @Sendable (String) throws -> [Int32]
  ) {
    self.encode = encode
    self.bosTokenID = bosTokenID
    self.eosTokenID = eosTokenID
  }
}

/// One rendering of a chat template.
package struct ConversationRequest: Sendable {
  package var messages: [JSONValue]
  /// Ends with the opening of the assistant's turn.
  package var addGenerationPrompt: Bool
  /// Ends right after the last message's text, so that it can be continued.
  package var continueFinalMessage: Bool
  /// Further variables of the template (`tools` and what the row's `chat_template_kwargs` set).
  package var arguments: JSONObject

  package init(
    messages: [JSONValue], addGenerationPrompt: Bool = false, continueFinalMessage: Bool = false,
    arguments: JSONObject = JSONObject()
  ) {
    self.messages = messages
    self.addGenerationPrompt = addGenerationPrompt
    self.continueFinalMessage = continueFinalMessage
    self.arguments = arguments
  }
}

/// A template's refusal of one conversation.
package struct ChatRenderingError: Error, Sendable, Equatable, CustomStringConvertible {
  package var description: String
  package init(_ description: String) { self.description = description }
}

/// Renders conversations in batches, results in the order of the requests. Throws only when the renderer itself has
/// failed.
package typealias ChatRendering = @Sendable ([ConversationRequest]) throws -> [Result<String, ChatRenderingError>]

extension PreferenceExample {
  /// Texts of `examples`, conversations rendered in one batch: TRL's `apply_chat_template`. The prompt's text is the
  /// longest common beginning of the rendered prompt and both whole conversations; the completions are what follows it.
  /// - Throws: `PreferenceFileError.noChatTemplate`, or the renderer's own failure.
  package static func texts(
    of examples: [PreferenceExample], chat: ChatRendering?
  ) throws -> [Result<PreferenceText, DataDefect>] {
    let requests = examples.flatMap(\.conversationRequests)
    var rendered: [Result<String, ChatRenderingError>] = []
    if !requests.isEmpty {
      guard let chat else {
        let first = examples.first { !$0.conversationRequests.isEmpty }?.location ?? RowLocation(file: "", line: 0)
        throw PreferenceFileError.noChatTemplate(file: first.file, line: first.line)
      }
      rendered = try chat(requests)
      precondition(rendered.count == requests.count, "a chat renderer returns one result for each request")
    }
    var next = 0
    return examples.map { example in
      if case .text(let prompt, let chosen, let rejected) = example.content {
        return .success(PreferenceText(prompt: prompt, chosen: chosen, rejected: rejected))
      }
      defer { next += 3 }
      return example.text(rendered[next..<(next + 3)])
    }
  }

  /// Prompt, prompt + chosen, prompt + rejected.
  private var conversationRequests: [ConversationRequest] {
    guard case .messages(let prompt, let chosen, let rejected, let arguments) = content else { return [] }
    let continues = prompt.last?["role"]?.isText("assistant") ?? false
    return [
      ConversationRequest(
        messages: prompt, addGenerationPrompt: !continues, continueFinalMessage: continues, arguments: arguments),
      ConversationRequest(messages: prompt + chosen, arguments: arguments),
      ConversationRequest(messages: prompt + rejected, arguments: arguments),
    ]
  }

  private func text(_ rendered: ArraySlice<Result<String, ChatRenderingError>>) -> Result<PreferenceText, DataDefect> {
    var texts: [String] = []
    for result in rendered {
      switch result {
      case .success(let text): texts.append(text)
      case .failure(let error): return .failure(DataDefect(.chatTemplate, at: location, "\(error)"))
      }
    }
    let shared = min(texts[0].commonPrefixLength(with: texts[1]), texts[0].commonPrefixLength(with: texts[2]))
    let text = PreferenceText(
      prompt: texts[0].split(atByte: shared).before, chosen: texts[1].split(atByte: shared).after,
      rejected: texts[2].split(atByte: shared).after)
    for (name, completion) in [("chosen", text.chosen), ("rejected", text.rejected)] where completion.isEmpty {
      return .failure(
        DataDefect(.emptyCompletion, at: location, "'\(name)' is empty once rendered by the chat template"))
    }
    if text.chosen.hasSameBytes(as: text.rejected) {
      let reason = "'chosen' and 'rejected' are identical once rendered by the chat template"
      return .failure(DataDefect(.identicalCompletions, at: location, reason))
    }
    return .success(text)
  }
}
