internal import JSON
package import Tokenization

extension TextEncoding {
  /// A model's tokenizer as the pipeline uses it: no automatic special tokens.
  package init(_ tokenizer: Tokenizer) {
    self.init(bosTokenID: tokenizer.bosTokenID, eosTokenID: tokenizer.eosTokenID) { try tokenizer.encode($0) }
  }
}

extension ChatRenderer {
  /// Rendering with a model's own template; nil when the model has none.
  package func rendering(for tokenizer: Tokenizer) -> ChatRendering? {
    guard let template = tokenizer.chatTemplate else { return nil }
    let variables = tokenizer.templateVariables
    return { conversations in
      let requests = conversations.map { conversation in
        // `tools` is a parameter of its own in transformers, whatever else the row sets is a variable.
        let extra = JSONObject(conversation.arguments.members.filter { !$0.key.isText("tools") })
        return ChatRequest(
          template: template, templateOrigin: tokenizer.chatTemplateOrigin, messages: .array(conversation.messages),
          addGenerationPrompt: conversation.addGenerationPrompt,
          continueFinalMessage: conversation.continueFinalMessage, variables: variables,
          tools: conversation.arguments["tools"], extra: extra)
      }
      return try self.render(requests).map {
        $0.mapError { error in
          ChatRenderingError(error.isLimit ? "\(tokenizer.chatTemplateOrigin): \(error)" : error.description)
        }
      }
    }
  }
}
