extension Tokenizer {
  /// The files that make a Hugging Face folder of this tokenizer: from a folder its own, byte for byte; else
  /// tokenizer.json and its companions written so that transformers loads them to the same ids.
  package func files() throws -> [(name: String, bytes: [UInt8])] {
    switch source {
    case .document(let document):
      return document.files(specialTokens: specialTokens, chatTemplate: chatTemplate).map {
        ($0.name, Array($0.text.utf8))
      }
    case .folder(let directory):
      return try Self.fileNames.compactMap { name in
        try Self.bytes(directory + "/" + name).map { (name, $0) }
      }
    }
  }

  private static let fileNames = [
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja",
    "vocab.json",
    "merges.txt", "tokenizer.model",
  ]
}
