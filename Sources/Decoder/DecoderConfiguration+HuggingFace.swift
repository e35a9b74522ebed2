package import JSON

extension DecoderConfiguration {
  /// Reads config.json as HF's `LlamaConfig` and `MistralConfig` do, with their defaults. What would change the numbers
  /// and is not supported is an error, never ignored.
  package init(huggingFace config: JSONValue) throws(DecoderError) {
    let reader = try ConfigReader(config, name: "config.json")
    let type = try reader.string("model_type") ?? ""
    guard let family = type.possibleName.flatMap(Family.init(rawValue:)) else {
      let known = Family.allCases.map(\.rawValue).joined(separator: ", ")
      throw .configuration(
        "config.json: model_type is \"\(type)\"; this version knows \(known)")
    }
    self = try Self.read(reader, family: family).validated()
  }

  private static func read(_ reader: ConfigReader, family: Family) throws(DecoderError) -> Self {
    try reader.require("hidden_act", is: "silu")
    for key in ["attention_dropout", "hidden_dropout", "embd_pdrop"] {
      if let value = try reader.double(key), value != 0 {
        throw .configuration("config.json: \(key) is \(value); dropout is not supported, set it to 0")
      }
    }
    if let factor = try reader.double("partial_rotary_factor"), factor != 1 {
      throw .configuration("config.json: partial_rotary_factor is \(factor); this version rotates whole heads only")
    }
    if !(reader["quantization_config"]?.isNull ?? true) {
      throw .configuration(
        "config.json: quantization_config is set; quantised checkpoints can be read from GGUF files only")
    }
    let hiddenSize = try reader.requiredInteger("hidden_size")
    let heads = try reader.requiredInteger("num_attention_heads")
    guard heads > 0 else {
      throw .configuration("config.json: num_attention_heads is \(heads); expected a positive number")
    }
    let vocabSize = try reader.requiredInteger("vocab_size")
    guard vocabSize > 0 else {
      throw .configuration("config.json: vocab_size is \(vocabSize); expected a positive number")
    }
    // As in torch.nn.Embedding, a negative one counts from the end.
    let padTokenID = try reader.integer("pad_token_id").map { (-vocabSize..<0).contains($0) ? $0 + vocabSize : $0 }
    let maxPositions = try reader.integer("max_position_embeddings") ?? (family == .mistral ? 131_072 : 2048)
    return Self(
      family: family, vocabSize: vocabSize, hiddenSize: hiddenSize,
      intermediateSize: try reader.requiredInteger("intermediate_size"),
      numHiddenLayers: try reader.requiredInteger("num_hidden_layers"), numAttentionHeads: heads,
      numKeyValueHeads: try reader.integer("num_key_value_heads") ?? (family == .mistral ? 8 : heads),
      headDim: try reader.integer("head_dim") ?? hiddenSize / heads,
      rmsNormEps: Float(try reader.double("rms_norm_eps") ?? 1e-6),
      rope: try RotaryConfiguration(huggingFace: reader, maxPositionEmbeddings: maxPositions),
      maxPositionEmbeddings: maxPositions, tieWordEmbeddings: try reader.bool("tie_word_embeddings") ?? false,
      attentionBias: family == .llama ? try reader.bool("attention_bias") ?? false : false,
      mlpBias: family == .llama ? try reader.bool("mlp_bias") ?? false : false,
      slidingWindow: try slidingWindow(reader, family: family), padTokenID: padTokenID)
  }

  /// Mistral's default is 4096 when the key is absent; `null` means none. Llama has none.
  private static func slidingWindow(_ reader: ConfigReader, family: Family) throws(DecoderError) -> Int? {
    guard family == .mistral else { return nil }
    return reader["sliding_window"] == nil ? 4096 : try reader.integer("sliding_window")
  }

  /// A config.json that transformers (4 and 5) loads, for models that came without one.
  package func huggingFaceJSON(bosTokenID: Int32?, eosTokenID: Int32?) -> JSONValue {
    func id(_ value: Int?) -> JSONValue { value.map { .integer($0) } ?? .null }
    var object = JSONObject([
      ("architectures", [.string(family.architecture)]), ("bos_token_id", id(bosTokenID.map(Int.init))),
      ("dtype", "float32"),
      ("eos_token_id", id(eosTokenID.map(Int.init))), ("head_dim", .integer(headDim)), ("hidden_act", "silu"),
      ("hidden_size", .integer(hiddenSize)), ("initializer_range", 0.02),
      ("intermediate_size", .integer(intermediateSize)),
      ("max_position_embeddings", .integer(maxPositionEmbeddings)), ("model_type", .string(family.rawValue)),
      ("num_attention_heads", .integer(numAttentionHeads)), ("num_hidden_layers", .integer(numHiddenLayers)),
      ("num_key_value_heads", .integer(numKeyValueHeads)), ("pad_token_id", id(padTokenID)),
      ("rms_norm_eps", .double(Double(rmsNormEps.description) ?? Double(rmsNormEps))),
    ])
    for (key, value) in rope.huggingFaceMembers { object[key] = value }
    if family == .mistral { object["sliding_window"] = slidingWindow.map { .integer($0) } ?? .null }
    if family == .llama {
      object["attention_bias"] = .bool(attentionBias)
      object["mlp_bias"] = .bool(mlpBias)
    }
    object["tie_word_embeddings"] = .bool(tieWordEmbeddings)
    object["torch_dtype"] = "float32"
    object["use_cache"] = true
    object["vocab_size"] = .integer(vocabSize)
    return .object(object)
  }
}

/// Typed look-ups in an object of a configuration file, with errors that name file and key.
package struct ConfigReader {
  let object: JSONObject
  let name: String

  package init(_ value: JSONValue, name: String) throws(DecoderError) {
    guard let object = value.object else {
      throw .configuration("\(name): expected an object, found \(value.typeName)")
    }
    self.object = object
    self.name = name
  }

  subscript(key: String) -> JSONValue? { object[key] }

  func string(_ key: String) throws(DecoderError) -> String? { try value(key, "a string") { $0.string } }
  func bool(_ key: String) throws(DecoderError) -> Bool? { try value(key, "true or false") { $0.bool } }
  func integer(_ key: String) throws(DecoderError) -> Int? { try value(key, "a whole number") { $0.integer } }
  func double(_ key: String) throws(DecoderError) -> Double? { try value(key, "a number") { $0.double } }

  func requiredInteger(_ key: String) throws(DecoderError) -> Int {
    guard let value = try integer(key) else {
      throw .configuration("\(name): \(key) is missing; expected a whole number")
    }
    return value
  }

  func requiredDouble(_ key: String) throws(DecoderError) -> Double {
    guard let value = try double(key) else { throw .configuration("\(name): \(key) is missing; expected a number") }
    return value
  }

  func require(_ key: String, is expected: String) throws(DecoderError) {
    if let found = try string(key), found.possibleName != expected {
      throw .configuration("\(name): \(key) is \"\(found)\"; this version supports \"\(expected)\" only")
    }
  }

  /// nil when the key is absent or null.
  private func value<Value>(_ key: String, _ expected: String, _ get: (JSONValue) -> Value?) throws(DecoderError)
    -> Value?
  {
    guard let value = object[key], !value.isNull else { return nil }
    guard let typed = get(value) else {
      throw .configuration("\(name): \(key) is \(value.typeName); expected \(expected)")
    }
    return typed
  }
}
