internal import JSON

/// A tokenizer.json made here rather than read: for vocabularies that come from GGUF metadata or are built in. The
/// tokenizer reads the document it will also write, so both give the same ids.
struct TokenizerDocument: Sendable {
  struct Added: Sendable {
    var id: Int
    var content: String
    var special: Bool
  }

  var addedTokens: [Added]
  var normalizer: JSONValue
  var preTokenizer: JSONValue
  var postProcessor: JSONValue
  var decoder: JSONValue
  var model: JSONValue

  var value: JSONValue {
    [
      "version": "1.0", "truncation": .null, "padding": .null,
      "added_tokens": .array(
        addedTokens.map {
          [
            "id": .integer($0.id), "content": .string($0.content), "single_word": false, "lstrip": false,
            "rstrip": false,
            "normalized": false, "special": .bool($0.special),
          ]
        }),
      "normalizer": normalizer, "pre_tokenizer": preTokenizer, "post_processor": postProcessor, "decoder": decoder,
      "model": model,
    ]
  }

  /// What a Hugging Face folder of this tokenizer holds.
  func files(specialTokens: [(name: String, token: String)], chatTemplate: String?) -> [(name: String, text: String)] {
    var configuration = JSONObject([
      // The generic class takes tokenizer.json as it is; model-specific classes would rebuild parts of it.
      ("tokenizer_class", "PreTrainedTokenizerFast"), ("clean_up_tokenization_spaces", false),
    ])
    var map = JSONObject()
    for (name, token) in specialTokens {
      configuration[name] = .string(token)
      map[name] = .string(token)
    }
    var files = [
      (name: "tokenizer.json", text: value.serialized(indent: 1) + "\n"),
      (name: "tokenizer_config.json", text: JSONValue.object(configuration).serialized(indent: 2) + "\n"),
      (name: "special_tokens_map.json", text: JSONValue.object(map).serialized(indent: 2) + "\n"),
    ]
    if let chatTemplate { files.append((name: "chat_template.jinja", text: chatTemplate)) }
    return files
  }
}

extension TokenizerDocument {
  static func byteLevel(useRegex: Bool) -> JSONValue {
    ["type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": .bool(useRegex)]
  }

  static func split(_ expression: String) -> JSONValue {
    ["type": "Split", "pattern": ["Regex": .string(expression)], "behavior": "Isolated", "invert": false]
  }

  static func bpe(
    vocabulary: JSONObject, merges: [(String, String)], unknownToken: String?, byteFallback: Bool, ignoreMerges: Bool
  ) -> JSONValue {
    [
      "type": "BPE", "dropout": .null, "unk_token": unknownToken.map { .string($0) } ?? .null,
      "continuing_subword_prefix": .null,
      "end_of_word_suffix": .null, "fuse_unk": .bool(byteFallback), "byte_fallback": .bool(byteFallback),
      "ignore_merges": .bool(ignoreMerges), "vocab": .object(vocabulary),
      "merges": .array(merges.map { .array([.string($0.0), .string($0.1)]) }),
    ]
  }
}
