import JSON
package import ModelFiles

/// A GGUF file of the `llama` architecture (Llama, Mistral, SmolLM2, TinyLlama ...) seen as a Hugging Face model: its
/// configuration from the metadata, its tensors under Hugging Face's names and in Hugging Face's order of rotary
/// features.
package struct GGUFModel: TensorSource {
  package let file: GGUFFile
  package let configuration: DecoderConfiguration
  package let tensors: [TensorInfo]

  /// - Throws: `DecoderError.configuration` when the metadata lacks what a decoder needs or says what is not supported.
  package init(_ file: GGUFFile) throws(DecoderError) {
    self.file = file
    let configuration = try DecoderConfiguration(gguf: file)
    self.configuration = configuration
    tensors = file.tensors.compactMap { tensor in
      Self.huggingFaceName(tensor.name).map { TensorInfo(name: $0, dtype: tensor.dtype, shape: tensor.shape) }
    }
  }

  package func info(_ name: String) -> TensorInfo? {
    Self.fileName(name).flatMap { file.info($0) }.map { TensorInfo(name: name, dtype: $0.dtype, shape: $0.shape) }
  }

  package func read(_ name: String, into values: UnsafeMutableBufferPointer<Float>) throws {
    let fileName = Self.fileName(name) ?? name
    try file.read(fileName, into: values)
    let heads =
      fileName.contains(".attn_q.")
      ? configuration.numAttentionHeads
      : fileName.contains(".attn_k.") ? configuration.numKeyValueHeads : 0
    if heads > 0 {
      GGUFFile.undoRotaryPermutation(
        values, heads: heads, headDim: configuration.headDim, columns: values.count / (heads * configuration.headDim))
    }
  }

  /// Names inside a layer, Hugging Face's and the file's.
  private static let layerNames = [
    ("input_layernorm", "attn_norm"), ("self_attn.q_proj", "attn_q"), ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"), ("self_attn.o_proj", "attn_output"), ("post_attention_layernorm", "ffn_norm"),
    ("mlp.gate_proj", "ffn_gate"), ("mlp.up_proj", "ffn_up"), ("mlp.down_proj", "ffn_down"),
  ]
  private static let globalNames = [
    ("model.embed_tokens.weight", "token_embd.weight"), ("model.norm.weight", "output_norm.weight"),
    ("lm_head.weight", "output.weight"),
  ]

  private static func fileName(_ name: String) -> String? {
    if let found = globalNames.first(where: { $0.0 == name }) { return found.1 }
    return translate(name, from: "model.layers.", to: "blk.") { part in layerNames.first { $0.0 == part }?.1 }
  }

  private static func huggingFaceName(_ name: String) -> String? {
    if let found = globalNames.first(where: { $0.1 == name }) { return found.0 }
    return translate(name, from: "blk.", to: "model.layers.") { part in layerNames.first { $0.1 == part }?.0 }
  }

  /// `from N . part . kind` -> `to N . other part . kind`.
  private static func translate(
    _ name: String, from: String, to: String, part: (String) -> String?
  ) -> String? {
    guard name.hasPrefix(from) else { return nil }
    let fields = name.dropFirst(from.count).split(separator: ".").map(String.init)
    guard fields.count >= 3, Int(fields[0]) != nil, let kind = fields.last,
      let other = part(fields[1..<(fields.count - 1)].joined(separator: "."))
    else { return nil }
    return "\(to)\(fields[0]).\(other).\(kind)"
  }
}

extension DecoderConfiguration {
  /// From the metadata of a GGUF file.
  init(gguf file: GGUFFile) throws(DecoderError) {
    let reader = GGUFReader(file)
    let architecture = try reader.string("general.architecture") ?? ""
    guard architecture.isText("llama") else {
      throw .configuration(
        "\(file.path): general.architecture is \"\(architecture)\"; this version reads llama from GGUF files")
    }
    if let experts = try reader.integer("llama.expert_count"), experts > 0 {
      throw .configuration("\(file.path): llama.expert_count is \(experts); mixtures of experts are not supported")
    }
    let hiddenSize = try reader.required("llama.embedding_length")
    let heads = try reader.required("llama.attention.head_count")
    guard heads > 0 else { throw .configuration("\(file.path): llama.attention.head_count is \(heads)") }
    let headDim = try reader.integer("llama.attention.key_length") ?? hiddenSize / heads
    guard headDim > 0, headDim % 2 == 0, headDim < 1 << 16 else {
      throw .configuration(
        "\(file.path): llama.attention.key_length (or embedding_length / head_count) is \(headDim); expected an even number from 2 to 65534"
      )
    }
    if let rotary = try reader.integer("llama.rope.dimension_count"), rotary != headDim {
      throw .configuration(
        "\(file.path): llama.rope.dimension_count is \(rotary) of \(headDim); this version rotates whole heads only")
    }
    let context = try reader.required("llama.context_length")
    let stated = try reader.integer("llama.vocab_size")
    let vocabulary = file.info("token_embd.weight")?.shape.first ?? stated
    guard let vocabulary else { throw .configuration("\(file.path): there is no token_embd.weight") }
    let window = try reader.integer("llama.attention.sliding_window")
    self = try Self(
      family: window == nil ? .llama : .mistral, vocabSize: vocabulary, hiddenSize: hiddenSize,
      intermediateSize: try reader.required("llama.feed_forward_length"),
      numHiddenLayers: try reader.required("llama.block_count"), numAttentionHeads: heads,
      numKeyValueHeads: try reader.integer("llama.attention.head_count_kv") ?? heads, headDim: headDim,
      rmsNormEps: Float(try reader.double("llama.attention.layer_norm_rms_epsilon") ?? 1e-5),
      rope: try reader.rope(headDim: headDim, context: context), maxPositionEmbeddings: context,
      tieWordEmbeddings: file.info("output.weight") == nil,
      attentionBias: file.info("blk.0.attn_q.bias") != nil && window == nil,
      mlpBias: file.info("blk.0.ffn_gate.bias") != nil && window == nil, slidingWindow: window,
      padTokenID: try reader.integer("tokenizer.ggml.padding_token_id")
    ).validated()
  }
}

/// Typed look-ups in GGUF metadata.
private struct GGUFReader {
  let file: GGUFFile

  init(_ file: GGUFFile) { self.file = file }

  func string(_ key: String) throws(DecoderError) -> String? { try value(key, "a string") { $0.string } }
  func integer(_ key: String) throws(DecoderError) -> Int? { try value(key, "one whole number") { $0.integer } }
  func double(_ key: String) throws(DecoderError) -> Double? { try value(key, "a number") { $0.double } }

  func required(_ key: String) throws(DecoderError) -> Int {
    guard let value = try integer(key) else {
      throw .configuration("\(file.path): the metadata lacks \(key), a whole number")
    }
    return value
  }

  /// nil when the key is absent. A value of another type, such as a number for each layer, is never passed over.
  private func value<Value>(_ key: String, _ expected: String, _ get: (GGUFValue) -> Value?) throws(DecoderError)
    -> Value?
  {
    guard let found = file[key] else { return nil }
    guard let typed = get(found) else {
      throw .configuration("\(file.path): \(key) has type \(found.typeName); this version expects \(expected)")
    }
    return typed
  }

  /// Llama 3's frequency factors come as a tensor: they are matched with the settings Meta published, so that a folder
  /// can be written.
  func rope(headDim: Int, context: Int) throws(DecoderError) -> RotaryConfiguration {
    let theta = try double("llama.rope.freq_base") ?? 10_000
    guard theta > 1, theta.isFinite else {
      throw .configuration("\(file.path): llama.rope.freq_base is \(theta); expected more than 1")
    }
    if let info = file.info("rope_freqs.weight") {
      guard info.count == headDim / 2 else {
        throw .configuration(
          "\(file.path): rope_freqs.weight has \(info.count) values; expected half of the head's \(headDim)")
      }
      var factors = [Float](repeating: 0, count: info.count)
      do { try factors.withUnsafeMutableBufferPointer { try file.read("rope_freqs.weight", into: $0) } } catch {
        throw .configuration("\(error)")
      }
      let plain = RotaryConfiguration(theta: theta).frequencies(
        headDim: headDim, maxPositionEmbeddings: context, sequenceLength: 1)
      for factor in [8.0, 32.0] {
        let candidate = RotaryConfiguration(
          theta: theta, kind: .llama3(factor: factor, lowFreqFactor: 1, highFreqFactor: 4, originalMaxPositions: 8192))
        let scaled = candidate.frequencies(headDim: headDim, maxPositionEmbeddings: context, sequenceLength: 1)
        let matches =
          factors.count == plain.inverse.count
          && zip(factors, zip(plain.inverse, scaled.inverse)).allSatisfy { abs($0 * $1.1 / $1.0 - 1) < 1e-3 }
        if matches { return candidate }
      }
      throw .configuration(
        "\(file.path): rope_freqs.weight is not one of Llama 3's published scalings (factor 8 or 32)")
    }
    let (newSpelling, oldSpelling) = (try double("llama.rope.scaling.factor"), try double("llama.rope.scale_linear"))
    let factor = newSpelling ?? oldSpelling ?? 1
    guard factor > 0, factor.isFinite else {
      throw .configuration("\(file.path): llama.rope.scaling.factor is \(factor); expected more than 0")
    }
    let type = try string("llama.rope.scaling.type") ?? (factor == 1 ? "none" : "linear")
    switch type.possibleName {
    case "none": return RotaryConfiguration(theta: theta)
    case "linear": return RotaryConfiguration(theta: theta, kind: factor == 1 ? .standard : .linear(factor: factor))
    case "yarn":
      if let attention = try double("llama.rope.scaling.attn_factor"), attention != 1 {
        throw .configuration(
          "\(file.path): llama.rope.scaling.attn_factor is \(attention); this version supports 1 only")
      }
      let original = try integer("llama.rope.scaling.original_context_length") ?? context
      guard original > 0 else {
        throw .configuration(
          "\(file.path): llama.rope.scaling.original_context_length is \(original); expected more than 0")
      }
      return RotaryConfiguration(theta: theta, kind: .yarn(.init(factor: factor, originalMaxPositions: original)))
    default:
      throw .configuration("\(file.path): llama.rope.scaling.type is \"\(type)\"; known are none, linear, yarn")
    }
  }
}
