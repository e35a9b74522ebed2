internal import JSON

/// Text <-> ids, as Hugging Face `tokenizers` does from a `tokenizer.json`: added tokens are cut out, the rest is
/// normalized, split into words and encoded by the model. May be used from several threads at once.
package final class Tokenizer: Sendable {
  let model: BPEModel
  let normalizer: Normalizer?
  let preTokenizers: [PreTokenizer]
  /// The regular expressions that text passes on its way to ids.
  let expressions: [RegularExpression]
  /// The last pre-tokenizer is ByteLevel and its mapping is left out: words are raw bytes.
  let wordsAreRawBytes: Bool
  let postProcessor: PostProcessor
  let decoders: [TokenDecoder]?
  let rawMatcher: AddedTokenMatcher
  let normalizedMatcher: AddedTokenMatcher
  /// Token text by id, added tokens included.
  let tokens: [[UInt8]?]
  let isSpecial: [Bool]
  let addedTokens: [AddedToken]
  let pool = EncodingPool()
  let source: Source

  /// The named special tokens (`bos_token` ...) as text, in transformers' order.
  let specialTokens: [(name: String, token: String)]
  /// The model's chat template in Jinja, when it has one.
  package let chatTemplate: String?
  /// The file that the chat template was read from.
  package let chatTemplateOrigin: String

  /// Where `files()` finds what a Hugging Face folder needs.
  enum Source: Sendable {
    case folder(String)
    case document(TokenizerDocument)
  }

  /// - Parameters:
  ///   - definition: the parsed tokenizer.json.
  ///   - file: what error messages call it.
  init(
    definition: JSONValue, file: String, specialTokens: [(name: String, token: String)], chatTemplate: String?,
    chatTemplateOrigin: String? = nil, source: Source
  ) throws(TokenizerError) {
    func component(_ name: String) -> Component? {
      definition[name].flatMap { $0.isNull ? nil : Component(value: $0, file: file, key: name) }
    }
    guard let modelPart = component("model") else {
      throw .malformed(file: file, key: "model", reason: "is missing; is this a tokenizer.json?")
    }
    model = try modelPart.bpeModel()
    normalizer = try component("normalizer")?.allSteps("normalizers").normalizer()
    preTokenizers = try component("pre_tokenizer")?.allSteps("pretokenizers").preTokenizers() ?? []
    postProcessor = try component("post_processor")?.allSteps("processors").postProcessor() ?? PostProcessor()
    decoders = try component("decoder")?.allSteps("decoders").decoders()
    // Replacements of replacements could make gigabytes of a line.
    let normalized: Double = normalizer?.growth ?? 1
    let split: Double = preTokenizers.reduce(normalized) { $0 * $1.growth }
    let decoded: Double = (decoders ?? []).reduce(1.0) { $0 * $1.growth }
    let growths: [(key: String, growth: Double)] = [
      ("normalizer", normalized), ("pre_tokenizer", split), ("decoder", decoded),
    ]
    for (key, growth) in growths where growth > Component.mostGrowth {
      throw .malformed(
        file: file, key: key, reason: "its steps can make a text more than \(Int(Component.mostGrowth)) times as long")
    }
    expressions = (normalizer?.patterns ?? []).compactMap(\.expression) + preTokenizers.compactMap(\.expression)
    wordsAreRawBytes =
      if case .byteLevel = preTokenizers.last, model.continuingPrefix.isEmpty, model.endSuffix.isEmpty { true } else {
        false
      }
    addedTokens = try Self.addedTokens(Component(value: definition, file: file, key: "tokenizer"), model)
    self.specialTokens = specialTokens
    self.chatTemplate = chatTemplate
    self.chatTemplateOrigin = chatTemplateOrigin ?? file
    self.source = source

    var tokens = model.tokens
    var rawMatcher = AddedTokenMatcher()
    var normalizedMatcher = AddedTokenMatcher()
    let specialContents = Set(addedTokens.lazy.filter(\.special).map(\.content))
    var shown: [Int: [UInt8]] = [:]
    var formBytes = 0
    let budget = MatchBudget(bytes: addedTokens.reduce(0) { $0 + $1.content.count })
    // Special tokens come first when two have the same form.
    for token in addedTokens.filter(\.special) + addedTokens.filter({ !$0.special }) {
      let form = token.normalized ? normalizer?(token.content, budget) ?? token.content : token.content
      formBytes += form.count
      guard formBytes < Component.addedTokenBytes else {
        throw .malformed(
          file: file, key: "added_tokens",
          reason: "in normalized form they may have \(Component.addedTokenBytes) bytes in all")
      }
      if token.normalized {
        normalizedMatcher.insert(token, form: form)
      } else {
        rawMatcher.insert(token, form: form)
      }
      while Int(token.id) >= tokens.count { tokens.append(nil) }
      // `tokenizers` shows a normalized token in its normalized form, also when decoding.
      shown[Int(token.id)] = form
    }
    for (id, form) in shown { tokens[id] = form }
    try postProcessor.validate(vocabularySize: tokens.count, file: file)
    isSpecial = tokens.map { $0.map(specialContents.contains) ?? false }
    self.tokens = tokens
    self.rawMatcher = rawMatcher
    self.normalizedMatcher = normalizedMatcher
  }

  private static func addedTokens(_ definition: Component, _ model: BPEModel) throws(TokenizerError) -> [AddedToken] {
    guard let listed = definition.value["added_tokens"], !listed.isNull else { return [] }
    var tokens: [AddedToken] = []
    var totalBytes = 0
    for part in try definition.list("added_tokens") {
      let content = Array(try part.string("content").utf8)
      totalBytes += content.count
      // Long ones would make every text slow to search, many of them would not fit the matcher's node numbers.
      guard content.count <= Component.longestText, totalBytes < Component.addedTokenBytes else {
        throw part.malformed(
          "content", "added tokens may have \(Component.longestText) bytes each and \(Component.addedTokenBytes) in all"
        )
      }
      let id = try part.integer("id")
      guard id >= 0, id < Component.mostTokens else {
        throw part.malformed("id", "\(id) is not a plausible id")
      }
      tokens.append(
        AddedToken(
          // A token the model knows keeps the model's id.
          id: model.vocabulary[content] ?? Int32(id), content: content,
          special: try part.bool("special", default: false),
          singleWord: try part.bool("single_word", default: false), stripsLeft: try part.bool("lstrip", default: false),
          stripsRight: try part.bool("rstrip", default: false), normalized: try part.bool("normalized", default: true)))
    }
    return tokens
  }
}

extension Tokenizer {
  /// One more than the highest id.
  package var vocabularySize: Int { tokens.count }

  package var bosToken: String? { token(named: "bos_token") }
  package var eosToken: String? { token(named: "eos_token") }
  package var padToken: String? { token(named: "pad_token") }
  package var unkToken: String? { token(named: "unk_token") }
  package var bosTokenID: Int32? { bosToken.flatMap(id(of:)) }
  package var eosTokenID: Int32? { eosToken.flatMap(id(of:)) }
  package var padTokenID: Int32? { padToken.flatMap(id(of:)) }
  package var unkTokenID: Int32? { unkToken.flatMap(id(of:)) }

  /// What transformers passes to a chat template beside the messages: `bos_token`, `eos_token` and so on, those that
  /// are set.
  package var templateVariables: [String: String] {
    Dictionary(specialTokens.map { ($0.name, $0.token) }, uniquingKeysWith: { _, last in last })
  }

  /// The id of the token written exactly so, added tokens first.
  package func id(of token: String) -> Int32? {
    let bytes = Array(token.utf8)
    return addedTokens.last { $0.content == bytes }?.id ?? model.vocabulary[bytes]
  }

  /// The token with this id as the vocabulary writes it.
  package func token(of id: Int32) -> String? {
    guard tokens.indices.contains(Int(id)) else { return nil }
    return tokens[Int(id)].map { String(decoding: $0, as: UTF8.self) }
  }

  private func token(named name: String) -> String? { specialTokens.last { $0.name == name }?.token }
}
