internal import JSON

extension Tokenizer {
  /// The tokenizer that GGUF metadata describes; equal to the model's own tokenizer.json.
  /// - Throws: `TokenizerError` naming the metadata key; a pre-tokenizer that is not known is an error, as ids would be
  ///   wrong.
  package convenience init(gguf vocabulary: GGUFVocabulary) throws {
    let document = try vocabulary.document()
    try self.init(
      definition: document.value, file: vocabulary.file, specialTokens: vocabulary.specialTokens(),
      chatTemplate: vocabulary.chatTemplate, source: .document(document))
  }
}

extension GGUFVocabulary {
  /// `tokenizer.ggml.token_type`
  private enum TokenType {
    static let unknown = 2
    static let control = 3
    static let userDefined = 4
    static let unused = 5
    static let byte = 6
  }

  private func malformed(_ key: String, _ reason: String) -> TokenizerError {
    .malformed(file: file, key: "tokenizer.ggml.\(key)", reason: reason)
  }

  private func type(_ id: Int) -> Int { tokenTypes.isEmpty ? 1 : tokenTypes[id] }

  func document() throws(TokenizerError) -> TokenizerDocument {
    guard !tokens.isEmpty else { throw malformed("tokens", "the vocabulary is empty") }
    for (key, count) in [("token_type", tokenTypes.count), ("scores", scores.count)]
    where count != 0 && count != tokens.count {
      throw malformed(key, "has \(count) values for \(tokens.count) tokens")
    }
    var names: [String] = []
    for (id, token) in tokens.enumerated() {
      guard let name = String(validating: token, as: UTF8.self) else {
        throw malformed("tokens[\(id)]", "is not UTF-8")
      }
      names.append(name)
    }
    switch model.possibleName {
    case "gpt2": return try byteLevelDocument(names)
    case "llama": return try sentencePieceDocument(names)
    default: throw .unsupported(component: "the tokenizer model \"\(model)\"", file: file, key: "tokenizer.ggml.model")
    }
  }

  /// The named special tokens whose ids the metadata gives, in transformers' order.
  func specialTokens() throws(TokenizerError) -> [(name: String, token: String)] {
    let ids = [
      ("bos_token", bosTokenID), ("eos_token", eosTokenID), ("unk_token", unknownTokenID),
      ("pad_token", paddingTokenID),
    ]
    var named: [(name: String, token: String)] = []
    for (name, id) in ids {
      guard let id else { continue }
      guard tokens.indices.contains(id) else {
        throw malformed(name + "_id", "\(id) is outside the vocabulary of \(tokens.count) tokens")
      }
      named.append((name, String(decoding: tokens[id], as: UTF8.self)))
    }
    return named
  }

  private func byteLevelDocument(_ names: [String]) throws(TokenizerError) -> TokenizerDocument {
    guard let pre else {
      throw malformed(
        "pre", "is missing, so how text is split is not known; convert the model again, or use its Hugging Face folder")
    }
    guard let kind = GGUFPreTokenizer(name: pre) else {
      throw .unsupported(
        component: "the pre-tokenizer \"\(pre)\" (known: \(GGUFPreTokenizer.known.joined(separator: ", ")))",
        file: file,
        key: "tokenizer.ggml.pre")
    }
    let byteLevel = TokenizerDocument.byteLevel(useRegex: true)
    return TokenizerDocument(
      addedTokens: addedTokens(names), normalizer: kind.normalizer, preTokenizer: kind.preTokenizer,
      postProcessor: try template(addBOS: addBosToken ?? kind.addsBOS), decoder: byteLevel,
      model: TokenizerDocument.bpe(
        vocabulary: vocabulary(names), merges: try writtenMerges(), unknownToken: nil, byteFallback: false,
        ignoreMerges: kind.ignoresMerges))
  }

  private func sentencePieceDocument(_ names: [String]) throws(TokenizerError) -> TokenizerDocument {
    guard !merges.isEmpty || !scores.isEmpty else { throw malformed("scores", "are missing, and there are no merges") }
    let prefix = addSpacePrefix ?? true
    let mark: JSONValue = "▁"
    let space: JSONValue = ["type": "Replace", "pattern": ["String": " "], "content": mark]
    let prepend: JSONValue = ["type": "Prepend", "prepend": mark]
    var decoders: [JSONValue] = [
      ["type": "Replace", "pattern": ["String": mark], "content": " "], ["type": "ByteFallback"], ["type": "Fuse"],
    ]
    if prefix { decoders.append(["type": "Strip", "content": " ", "start": 1, "stop": 0]) }
    let unknown = unknownTokenID ?? tokenTypes.firstIndex(of: TokenType.unknown)
    return TokenizerDocument(
      addedTokens: addedTokens(names),
      normalizer: prefix ? ["type": "Sequence", "normalizers": [prepend, space]] : space, preTokenizer: .null,
      postProcessor: try template(addBOS: addBosToken ?? true),
      decoder: ["type": "Sequence", "decoders": .array(decoders)],
      model: TokenizerDocument.bpe(
        vocabulary: vocabulary(names), merges: merges.isEmpty ? try mergesByScore(names) : try writtenMerges(),
        unknownToken: unknown.flatMap { names.indices.contains($0) ? names[$0] : nil }, byteFallback: true,
        ignoreMerges: false))
  }

  private func vocabulary(_ names: [String]) -> JSONObject {
    JSONObject(names.enumerated().map { (key: $1, value: .integer($0)) })
  }

  /// Control tokens are special; user-defined ones are matched whole but are text.
  private func addedTokens(_ names: [String]) -> [TokenizerDocument.Added] {
    names.indices.compactMap { id in
      let type = type(id)
      let special = type == TokenType.control || type == TokenType.unknown
      guard special || type == TokenType.userDefined, !names[id].isEmpty else { return nil }
      return .init(id: id, content: names[id], special: special)
    }
  }

  private func template(addBOS: Bool) throws(TokenizerError) -> JSONValue {
    var parts: [JSONValue] = [["Sequence": ["id": "A", "type_id": 0]]]
    var pair: [JSONValue] = [["Sequence": ["id": "B", "type_id": 1]]]
    var used = JSONObject()
    func special(_ id: Int, type: Int) -> JSONValue {
      let token = String(decoding: tokens[id], as: UTF8.self)
      used[token] = ["id": .string(token), "ids": [.integer(id)], "tokens": [.string(token)]]
      return ["SpecialToken": ["id": .string(token), "type_id": .integer(type)]]
    }
    // `specialTokens` refuses ids outside the vocabulary.
    _ = try specialTokens()
    if addBOS, let bosTokenID {
      parts.insert(special(bosTokenID, type: 0), at: 0)
      pair.insert(special(bosTokenID, type: 1), at: 0)
    }
    if addEosToken ?? false, let eosTokenID {
      parts.append(special(eosTokenID, type: 0))
      pair.append(special(eosTokenID, type: 1))
    }
    if used.members.isEmpty { return .null }
    return [
      "type": "TemplateProcessing", "single": .array(parts), "pair": .array(parts + pair),
      "special_tokens": .object(used),
    ]
  }

  private func writtenMerges() throws(TokenizerError) -> [(String, String)] {
    var pairs: [(String, String)] = []
    pairs.reserveCapacity(merges.count)
    for (index, merge) in merges.enumerated() {
      let parts = merge.utf8.split(separator: 0x20, omittingEmptySubsequences: false)
      guard parts.count == 2 else { throw malformed("merges[\(index)]", "must be two tokens with one space between") }
      pairs.append((String(decoding: parts[0], as: UTF8.self), String(decoding: parts[1], as: UTF8.self)))
    }
    return pairs
  }

  /// The merges that SentencePiece's scores imply, as transformers derives them: every way to cut a token into two
  /// tokens, best score first, then longer left and right sides, then order of the vocabulary.
  private func mergesByScore(_ names: [String]) throws(TokenizerError) -> [(String, String)] {
    // Every cut of a token is tried.
    for (id, token) in tokens.enumerated() where token.count > Component.longestText {
      throw malformed("tokens[\(id)]", "has \(token.count) bytes; at most \(Component.longestText) are accepted")
    }
    let ids = ByteTable(tokens.enumerated().map { ($1, Int32($0)) })
    let joinable = tokens.indices.map { id in
      ![TokenType.unknown, TokenType.control, TokenType.unused, TokenType.byte].contains(type(id))
    }
    let lengths = names.map(\.unicodeScalars.count)
    var found: [(left: Int, right: Int, score: Float)] = []
    for id in tokens.indices where joinable[id] {
      let token = tokens[id]
      var local: [(left: Int, right: Int, score: Float)] = []
      for cut in 1..<max(1, token.count) where token[cut] & 0xC0 != 0x80 {
        guard let left = ids[Array(token[..<cut])], let right = ids[Array(token[cut...])],
          joinable[Int(left)], joinable[Int(right)]
        else { continue }
        local.append((Int(left), Int(right), scores[id]))
      }
      guard found.count + local.count <= 1 << 23 else {
        throw malformed("tokens", "imply more than \(1 << 23) merges; no vocabulary has so many")
      }
      found += local.sorted { ($0.left, $0.right) < ($1.left, $1.right) }
    }
    // Swift's sort is stable, as Python's.
    found.sort { ($0.score, lengths[$0.left], lengths[$0.right]) > ($1.score, lengths[$1.left], lengths[$1.right]) }
    return found.map { (names[$0.left], names[$0.right]) }
  }
}
