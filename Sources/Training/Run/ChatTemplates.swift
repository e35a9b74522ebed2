import JSON
package import Preferences
package import Tokenization

/// Chat templates for the data pipeline and for `generate`.
package enum ChatTemplates {
  /// Whether any of `files` begins with a conversational row: only then is a template needed. A file that cannot be read counts as not;
  /// reading it properly says why.
  package static func areNeeded(for files: [String]) -> Bool {
    struct Found: Error {}
    for file in files {
      do {
        try PreferenceReader(files: [file]).forEachBatch(rows: 1) { rows in
          guard case .success(let example) = rows.first else { return }
          if case .messages = example.content { throw Found() }
          throw CancellationError()
        }
      } catch is Found { return true } catch {}
    }
    return false
  }

  /// How conversations of rows are rendered; nil when the model has no chat template.
  package static func rendering(_ renderer: ChatRenderer, _ tokenizer: Tokenizer) -> ChatRendering? {
    guard let template = tokenizer.chatTemplate else { return nil }
    let variables = tokenizer.templateVariables
    return { requests in
      let results = try renderer.render(
        requests.map { request in
          var extra: [String: JSONValue] = [:]
          for (name, value) in request.arguments.members where name != "tools" { extra[name] = value }
          return Tokenization.ChatRequest(
            template: template, messages: .array(request.messages), addGenerationPrompt: request.addGenerationPrompt,
            continueFinalMessage: request.continueFinalMessage, variables: variables, tools: request.arguments["tools"],
            extra: extra)
        })
      return results.map { $0.mapError { ChatRenderingError($0.description) } }
    }
  }
}
