/// The tokenizer in a GGUF file's metadata (`tokenizer.ggml.*`), filled in by whoever reads the file.
package struct GGUFVocabulary: Sendable {
  /// `tokenizer.ggml.model`: `gpt2` (byte-level BPE) or `llama` (SentencePiece).
  package var model: String
  /// `tokenizer.ggml.pre`: how text is split into words; nil when the file does not say.
  package var pre: String?
  /// `tokenizer.ggml.tokens`, as UTF-8.
  package var tokens: [[UInt8]]
  /// `tokenizer.ggml.scores`; empty when missing.
  package var scores: [Float]
  /// `tokenizer.ggml.token_type`: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte; empty when missing.
  package var tokenTypes: [Int]
  /// `tokenizer.ggml.merges`: two tokens with a space between.
  package var merges: [String]
  package var bosTokenID: Int?
  package var eosTokenID: Int?
  package var unknownTokenID: Int?
  package var paddingTokenID: Int?
  package var addBosToken: Bool?
  package var addEosToken: Bool?
  package var addSpacePrefix: Bool?
  /// `tokenizer.chat_template`
  package var chatTemplate: String?
  /// The file's path, for error messages.
  package var file: String

  package init(
    model: String, pre: String? = nil, tokens: [[UInt8]], scores: [Float] = [], tokenTypes: [Int] = [],
    merges: [String] = [],
    bosTokenID: Int? = nil, eosTokenID: Int? = nil, unknownTokenID: Int? = nil, paddingTokenID: Int? = nil,
    addBosToken: Bool? = nil, addEosToken: Bool? = nil, addSpacePrefix: Bool? = nil, chatTemplate: String? = nil,
    file: String = "GGUF metadata"
  ) {
    self.model = model
    self.pre = pre
    self.tokens = tokens
    self.scores = scores
    self.tokenTypes = tokenTypes
    self.merges = merges
    self.bosTokenID = bosTokenID
    self.eosTokenID = eosTokenID
    self.unknownTokenID = unknownTokenID
    self.paddingTokenID = paddingTokenID
    self.addBosToken = addBosToken
    self.addEosToken = addEosToken
    self.addSpacePrefix = addSpacePrefix
    self.chatTemplate = chatTemplate
    self.file = file
  }
}
