import Decoder
import JSON
import Tensors
import Testing

@Suite struct ConfigurationTests {
  private static let valid = JSONObject([
    ("model_type", "llama"), ("vocab_size", 97), ("hidden_size", 32), ("intermediate_size", 48),
    ("num_hidden_layers", 2),
    ("num_attention_heads", 4), ("rms_norm_eps", 0.00001),
  ])

  private static func read(_ changes: [(String, JSONValue?)]) throws -> DecoderConfiguration {
    var object = valid
    for (key, value) in changes { object[key] = value }
    return try DecoderConfiguration(huggingFace: .object(object))
  }

  private static func message(_ changes: (String, JSONValue?)...) -> String {
    do {
      _ = try read(changes)
      return "no error"
    } catch { return "\(error)" }
  }

  /// Numbers at which arithmetic would trap.
  @Test(arguments: ["vocab_size", "hidden_size", "num_attention_heads", "head_dim", "num_key_value_heads"])
  func hostileSizesAreErrors(_ key: String) {
    for value in [Int.min, -5, 0, 1 << 40, Int.max] {
      #expect(Self.message((key, .integer(value)), ("pad_token_id", -1)).contains(key), "\(key) \(value)")
    }
  }

  @Test func defaultsAreHuggingFaces() throws {
    let llama = try Self.read([])
    #expect(llama.numKeyValueHeads == 4 && llama.headDim == 8 && llama.maxPositionEmbeddings == 2048)
    #expect(llama.rope == RotaryConfiguration(theta: 10_000) && !llama.tieWordEmbeddings && llama.padTokenID == nil)
    #expect(!llama.attentionBias && !llama.mlpBias && llama.slidingWindow == nil)
    #expect(try Self.read([("rms_norm_eps", nil)]).rmsNormEps == 1e-6)
    let mistral = try Self.read([("model_type", "mistral"), ("num_attention_heads", 8)])
    #expect(mistral.numKeyValueHeads == 8 && mistral.slidingWindow == 4096 && mistral.maxPositionEmbeddings == 131_072)
    #expect(
      try Self.read([("model_type", "mistral"), ("num_attention_heads", 8), ("sliding_window", .null)]).slidingWindow
        == nil)
    // A Llama's configuration may carry a window that its code never reads.
    #expect(try Self.read([("sliding_window", 16)]).slidingWindow == nil)
  }

  @Test func errorsSayWhatToDo() {
    let messages: [(found: String, expected: String)] = [
      (Self.message(("model_type", "gpt2")), "config.json: model_type is \"gpt2\"; this version knows llama, mistral"),
      (Self.message(("model_type", nil)), "config.json: model_type is \"\"; this version knows llama, mistral"),
      (Self.message(("hidden_size", nil)), "config.json: hidden_size is missing; expected a whole number"),
      (Self.message(("hidden_size", "32")), "config.json: hidden_size is a string; expected a whole number"),
      (Self.message(("hidden_size", 32.5)), "config.json: hidden_size is a number; expected a whole number"),
      (
        Self.message(("tie_word_embeddings", 1)), "config.json: tie_word_embeddings is a number; expected true or false"
      ),
      (Self.message(("rms_norm_eps", "small")), "config.json: rms_norm_eps is a string; expected a number"),
      (
        Self.message(("hidden_act", "gelu")), "config.json: hidden_act is \"gelu\"; this version supports \"silu\" only"
      ),
      (
        Self.message(("attention_dropout", 0.1)),
        "config.json: attention_dropout is 0.1; dropout is not supported, set it to 0"
      ),
      (
        Self.message(("quantization_config", .object(JSONObject([("bits", 4)])))),
        "config.json: quantization_config is set; quantised checkpoints can be read from GGUF files only"
      ),
      (
        Self.message(("num_key_value_heads", 3)),
        "num_attention_heads (4) is not a multiple of num_key_value_heads (3)"
      ),
      (Self.message(("head_dim", 7)), "head_dim is 7; rotary embeddings need an even number"),
      (Self.message(("num_attention_heads", 0)), "config.json: num_attention_heads is 0; expected a positive number"),
      (Self.message(("num_hidden_layers", -1)), "num_hidden_layers is -1; expected a positive number"),
      (Self.message(("rms_norm_eps", -0.5)), "rms_norm_eps is -0.5; expected a number of at least 0"),
      (Self.message(("rope_theta", 0)), "config.json: rope_theta is 0.0; expected more than 1"),
    ]
    for (found, expected) in messages { #expect(found == expected) }
  }

  @Test(
    arguments: [
      ("partial_rotary_factor", 0.5), ("hidden_dropout", 0.1), ("embd_pdrop", 0.1), ("vocab_size", 0),
      ("vocab_size", 3_000_000_000), ("head_dim", 0), ("max_position_embeddings", 0), ("num_key_value_heads", 0),
      ("num_key_value_heads", 8), ("intermediate_size", -4), ("pad_token_id", 97), ("pad_token_id", -98),
      ("pad_token_id", 5_000_000_000), ("pad_token_id", "x"), ("hidden_size", .null), ("rope_scaling", 3),
      ("rope_scaling", ["type": "su"]), ("rope_scaling", ["type": "linear"]),
      ("rope_scaling", ["type": "linear", "factor": 0]),
      ("rope_scaling", ["type": "llama3", "factor": 8.0]), ("rope_parameters", ["rope_type": "longrope"]),
      ("rope_parameters", ["rope_type": 5]),
      ("rope_parameters", ["rope_type": "default", "partial_rotary_factor": 0.5]),
    ] as [(String, JSONValue)])
  func whatCannotBeComputedIsAnErrorThatNamesItsKey(key: String, value: JSONValue) {
    let message = Self.message((key, value))
    #expect(message != "no error")
    #expect(message.contains(key), "\(message)")
  }

  @Test func absurdSizesAreErrorsAndNoTrap() {
    let most = JSONValue.integer(Int(Int32.max) - 1)
    let huge: [[(String, JSONValue?)]] = [
      [("hidden_size", most), ("intermediate_size", most), ("head_dim", 8)],
      [("vocab_size", most), ("hidden_size", .integer(1 << 20)), ("head_dim", 8)],
      [("head_dim", most), ("num_attention_heads", most), ("num_key_value_heads", most)],
      [("num_hidden_layers", 9999), ("hidden_size", .integer(1 << 16)), ("intermediate_size", .integer(1 << 18))],
    ]
    for changes in huge {
      #expect { try Self.read(changes) } throws: { "\($0)".contains("parameters; this version goes up to 2^40") }
    }
    #expect(
      Self.message(("num_hidden_layers", most)) == "num_hidden_layers is 2147483646; this version goes up to 10000")
  }

  @Test func notAnObject() {
    #expect(throws: DecoderError.configuration("config.json: expected an object, found a list")) {
      try DecoderConfiguration(huggingFace: ["llama"])
    }
  }

  @Test func aNegativePadTokenCountsFromTheEnd() throws {
    #expect(try Self.read([("pad_token_id", -1)]).padTokenID == 96)
    #expect(try Self.read([("pad_token_id", 96)]).padTokenID == 96)
  }

  private static func sameAfterWriting(_ configuration: DecoderConfiguration) throws -> Bool {
    let written = configuration.huggingFaceJSON(bosTokenID: 1, eosTokenID: nil)
    let read = try DecoderConfiguration(huggingFace: JSONValue(parsing: written.serialized(indent: 2)))
    return read == configuration && written["bos_token_id"]?.integer == 1 && written["eos_token_id"]?.isNull == true
  }

  @Test(arguments: GoldenModel.names)
  func goldenConfigurationsReadBackEqual(name: String) throws {
    #expect(try Self.sameAfterWriting(GoldenModel(name).configuration))
  }

  private static var yarn: RotaryConfiguration.Yarn {
    var yarn = RotaryConfiguration.Yarn(factor: 4, originalMaxPositions: 128)
    (yarn.betaFast, yarn.betaSlow, yarn.attentionFactor) = (16, 2, 1.25)
    (yarn.mscale, yarn.mscaleAllDim, yarn.truncate) = (0.7, 0.3, false)
    return yarn
  }

  @Test(
    arguments: [
      .standard, .linear(factor: 2.5), .dynamic(factor: 3),
      .llama3(factor: 8, lowFreqFactor: 1, highFreqFactor: 4, originalMaxPositions: 512), .yarn(yarn),
      .yarn(.init(factor: 2, originalMaxPositions: 64)),
    ] as [RotaryConfiguration.Kind])
  func everyRotaryKindReadsBackEqual(kind: RotaryConfiguration.Kind) throws {
    for family in DecoderConfiguration.Family.allCases {
      var configuration = SharedPrefixTests.small
      configuration.family = family
      configuration.rope = RotaryConfiguration(theta: 123_456.5, kind: kind)
      configuration.rmsNormEps = 3.1e-6
      configuration.padTokenID = 5
      if family == .mistral { configuration.slidingWindow = 77 }
      if family == .llama { (configuration.attentionBias, configuration.mlpBias) = (true, true) }
      #expect(try Self.sameAfterWriting(configuration))
    }
  }

  @Test(arguments: [true, false], [nil, 7] as [Int?])
  func initialParametersHaveTheStatisticsAskedFor(tied: Bool, padTokenID: Int?) throws {
    var configuration = SharedPrefixTests.small
    configuration.family = .llama
    (configuration.attentionBias, configuration.mlpBias, configuration.tieWordEmbeddings) = (true, true, tied)
    configuration.padTokenID = padTokenID
    func parameters(seed: UInt64) throws -> [Float] {
      try withDecoder(configuration) { decoder in
        decoder.initialize(seed: seed, initializerRange: 0.05)
        return Array(decoder.parameters)
      }
    }
    let layout = try withDecoder(configuration) { $0.layout }
    let values = try parameters(seed: 1)
    #expect(try parameters(seed: 1) == values)
    #expect(try parameters(seed: 2) != values)
    for entry in layout.entries {
      let part = values[entry.range].map(Double.init)
      if entry.name.hasSuffix(".bias") {
        #expect(part.allSatisfy { $0 == 0 } && !entry.decays)
      } else if entry.name.contains("norm") {
        #expect(part.allSatisfy { $0 == 1 } && !entry.decays)
      } else {
        let count = Double(part.count)
        let mean = part.reduce(0, +) / count
        let deviation = (part.reduce(0) { $0 + $1 * $1 } / count).squareRoot()
        #expect(entry.decays && abs(mean) < 5 * 0.05 / count.squareRoot(), "\(entry.name)")
        // The zero row of the padding token takes one part in 97.
        #expect(abs(deviation / 0.05 - 1) < 5 / (2 * count).squareRoot() + 0.006, "\(entry.name)")
      }
    }
    let embedding = try #require(layout.entries.first { $0.name == "model.embed_tokens.weight" })
    let row = (padTokenID ?? 7) * configuration.hiddenSize + embedding.offset
    // As torch.nn.Embedding(padding_idx:) starts.
    #expect(values[row..<(row + configuration.hiddenSize)].allSatisfy { $0 == 0 } == (padTokenID != nil))
  }
}
