internal import JSON
internal import ModelFiles

extension Tokenizer {
  /// Reads a Hugging Face folder: tokenizer.json, and from tokenizer_config.json, special_tokens_map.json and
  /// chat_template.jinja, where they exist, the special tokens and the chat template.
  /// - Throws: `TokenizerError` naming file and key; also for components that are not implemented.
  package convenience init(directory: String) throws {
    let path = directory + "/tokenizer.json"
    guard let definition = try Self.json(path) else {
      throw TokenizerError.unreadable(
        path: path,
        reason: "not found; a model's folder needs it (transformers' AutoTokenizer writes it with save_pretrained)")
    }
    let configuration = try Self.json(directory + "/tokenizer_config.json")
    let map = try Self.json(directory + "/special_tokens_map.json")
    let template = try Self.chatTemplate(directory, configuration)
    try self.init(
      definition: definition, file: path, specialTokens: Self.specialTokens(configuration, map),
      chatTemplate: template?.text, chatTemplateOrigin: template?.file, source: .folder(directory))
  }

  /// The named special tokens, in transformers' order.
  static let specialTokenNames = [
    "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token",
  ]

  /// As transformers: special_tokens_map.json is the older file and wins unless the configuration lists
  /// `added_tokens_decoder`; here it also fills in what the configuration leaves out.
  private static func specialTokens(_ configuration: JSONValue?, _ map: JSONValue?) -> [(name: String, token: String)] {
    let sources = configuration?["added_tokens_decoder"] == nil ? [map, configuration] : [configuration, map]
    return specialTokenNames.compactMap { name in
      for source in sources {
        if let value = source?[name], let token = value.string ?? value["content"]?.string { return (name, token) }
      }
      return nil
    }
  }

  /// chat_template.jinja, else `chat_template` of the configuration: one template, or several by name of which
  /// `default` is taken.
  private static func chatTemplate(_ directory: String, _ configuration: JSONValue?) throws -> (
    text: String, file: String
  )? {
    let path = directory + "/chat_template.jinja"
    if let bytes = try bytes(path) {
      guard let text = String(validating: bytes, as: UTF8.self) else {
        throw TokenizerError.unreadable(path: path, reason: "is not UTF-8")
      }
      return (universalNewlines(text), path)
    }
    let value = configuration?["chat_template"]
    let text =
      if let named = value?.array {
        named.first { $0["name"]?.isText("default") ?? false }?["template"]?.string
      } else { value?.string }
    return text.map { ($0, directory + "/tokenizer_config.json") }
  }

  /// Python reads text files with every line end as `\n`.
  private static func universalNewlines(_ text: String) -> String {
    guard text.utf8.contains(0x0D) else { return text }
    var result: [UInt8] = []
    var previous: UInt8 = 0
    for byte in text.utf8 {
      if byte == 0x0A, previous == 0x0D { previous = byte; continue }
      result.append(byte == 0x0D ? 0x0A : byte)
      previous = byte
    }
    return String(decoding: result, as: UTF8.self)
  }

  /// The longest file of a tokenizer that is read; those of the largest vocabularies take some 40 MB.
  private static let sizeLimit = 256 << 20

  /// Nil when there is no such file.
  static func bytes(_ path: String) throws -> [UInt8]? {
    try ReadableFile.contents(ifPresent: path, limit: sizeLimit)
  }

  /// Nil when there is no such file.
  private static func json(_ path: String) throws -> JSONValue? {
    guard let bytes = try bytes(path) else { return nil }
    do { return try JSONValue(parsing: bytes) } catch {
      throw TokenizerError.unreadable(path: path, reason: "\(error)")
    }
  }
}
