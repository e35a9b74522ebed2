import JSON

/// What a decoder computes, under Hugging Face's field names. Families differ by these values only, never by code of
/// their own.
package struct DecoderConfiguration: Sendable, Equatable {
  /// `model_type` of config.json.
  package enum Family: String, Sendable, CaseIterable {
    case llama, mistral

    /// `architectures[0]`.
    var architecture: String {
      switch self {
      case .llama: "LlamaForCausalLM"
      case .mistral: "MistralForCausalLM"
      }
    }
  }

  package var family: Family
  package var vocabSize: Int
  package var hiddenSize: Int
  package var intermediateSize: Int
  package var numHiddenLayers: Int
  package var numAttentionHeads: Int
  package var numKeyValueHeads: Int
  package var headDim: Int
  package var rmsNormEps: Float
  package var rope: RotaryConfiguration
  package var maxPositionEmbeddings: Int
  package var tieWordEmbeddings: Bool
  package var attentionBias: Bool
  package var mlpBias: Bool
  /// Keys a query sees, itself included; nil for all.
  package var slidingWindow: Int?
  /// As in HF (`nn.Embedding(padding_idx:)`) this token's input embedding gets no gradient, also where the token occurs
  /// in the text.
  package var padTokenID: Int?

  package init(
    family: Family, vocabSize: Int, hiddenSize: Int, intermediateSize: Int, numHiddenLayers: Int,
    numAttentionHeads: Int,
    numKeyValueHeads: Int, headDim: Int, rmsNormEps: Float, rope: RotaryConfiguration, maxPositionEmbeddings: Int,
    tieWordEmbeddings: Bool, attentionBias: Bool = false, mlpBias: Bool = false, slidingWindow: Int? = nil,
    padTokenID: Int? = nil
  ) {
    self.family = family
    self.vocabSize = vocabSize
    self.hiddenSize = hiddenSize
    self.intermediateSize = intermediateSize
    self.numHiddenLayers = numHiddenLayers
    self.numAttentionHeads = numAttentionHeads
    self.numKeyValueHeads = numKeyValueHeads
    self.headDim = headDim
    self.rmsNormEps = rmsNormEps
    self.rope = rope
    self.maxPositionEmbeddings = maxPositionEmbeddings
    self.tieWordEmbeddings = tieWordEmbeddings
    self.attentionBias = attentionBias
    self.mlpBias = mlpBias
    self.slidingWindow = slidingWindow
    self.padTokenID = padTokenID
  }

  /// Width of a row of queries, and of keys or values.
  var querySize: Int { numAttentionHeads * headDim }
  var keySize: Int { numKeyValueHeads * headDim }
  var qkvSize: Int { querySize + 2 * keySize }

  /// Refuses sizes that do not fit together, with the keys to look at.
  func validated() throws(DecoderError) -> Self {
    func require(_ holds: Bool, _ message: @autoclosure () -> String) throws(DecoderError) {
      if !holds { throw .configuration(message()) }
    }
    for (key, value) in [
      ("vocab_size", vocabSize), ("hidden_size", hiddenSize), ("intermediate_size", intermediateSize),
      ("num_hidden_layers", numHiddenLayers), ("num_attention_heads", numAttentionHeads),
      ("num_key_value_heads", numKeyValueHeads), ("head_dim", headDim),
      ("max_position_embeddings", maxPositionEmbeddings),
    ] {
      try require(value > 0, "\(key) is \(value); expected a positive number")
      try require(value < 1 << 31, "\(key) is \(value); expected less than 2^31")
    }
    try require(
      numAttentionHeads % numKeyValueHeads == 0,
      "num_attention_heads (\(numAttentionHeads)) is not a multiple of num_key_value_heads (\(numKeyValueHeads))")
    try require(headDim % 2 == 0, "head_dim is \(headDim); rotary embeddings need an even number")
    try require(
      rmsNormEps >= 0 && rmsNormEps.isFinite, "rms_norm_eps is \(rmsNormEps); expected a number of at least 0")
    if let padTokenID {
      try require(
        (0..<vocabSize).contains(padTokenID),
        "pad_token_id is \(padTokenID); expected a token of the vocabulary of \(vocabSize)")
    }
    if let slidingWindow {
      try require(slidingWindow > 0, "sliding_window is \(slidingWindow); expected a positive number or null")
    }
    try require(
      numHiddenLayers <= Self.mostLayers,
      "num_hidden_layers is \(numHiddenLayers); this version goes up to \(Self.mostLayers)")
    try require(
      approximateParameters < Self.mostParameters,
      "vocab_size, hidden_size, intermediate_size, head_dim and num_hidden_layers together ask for "
        + "\(approximateParameters) parameters; this version goes up to 2^40")
    return self
  }

  /// Beyond these a file is damaged or hostile; below them no size or offset in bytes overflows.
  private static let mostLayers = 10_000
  private static let mostParameters = 0x1p40

  /// In floating point, which does not trap; without biases and norms.
  private var approximateParameters: Double {
    let hidden = Double(hiddenSize)
    let heads = Double(headDim) * (2 * Double(numAttentionHeads) + 2 * Double(numKeyValueHeads))
    let layer = hidden * (heads + 3 * Double(intermediateSize))
    return Double(numHiddenLayers) * layer + (tieWordEmbeddings ? 1 : 2) * Double(vocabSize) * hidden
  }
}

/// What is wrong with a model, in words for its owner.
package enum DecoderError: Error, CustomStringConvertible, Equatable {
  case configuration(String)
  case missingTensors([String])
  case shape(tensor: String, expected: [Int], found: [Int])

  package var description: String {
    switch self {
    case .configuration(let message): message
    case .missingTensors(let names):
      "the model lacks \(names.count) tensor\(names.count == 1 ? "" : "s") that its configuration asks for: "
        + names.prefix(5).joined(separator: ", ") + (names.count > 5 ? ", ..." : "")
    case .shape(let tensor, let expected, let found):
      "tensor \(tensor) has shape \(found); the model's configuration asks for \(expected)"
    }
  }
}
