import Foundation
import JSON

/// Rotary position embedding and its ways to reach further (HF `modeling_rope_utils.py`).
package struct RotaryConfiguration: Sendable, Equatable {
  package enum Kind: Sendable, Equatable {
    case standard
    /// Positions divided by `factor`.
    case linear(factor: Double)
    /// The base grows with the length of the sequence once it exceeds the model's `max_position_embeddings`.
    case dynamic(factor: Double)
    case llama3(factor: Double, lowFreqFactor: Double, highFreqFactor: Double, originalMaxPositions: Int)
    case yarn(Yarn)
  }

  package struct Yarn: Sendable, Equatable {
    package var factor: Double
    package var originalMaxPositions: Int
    package var betaFast = 32.0
    package var betaSlow = 1.0
    package var attentionFactor: Double?
    package var mscale: Double?
    package var mscaleAllDim: Double?
    package var truncate = true

    package init(factor: Double, originalMaxPositions: Int) {
      self.factor = factor
      self.originalMaxPositions = originalMaxPositions
    }
  }

  package var theta: Double
  package var kind: Kind

  package init(theta: Double, kind: Kind = .standard) {
    self.theta = theta
    self.kind = kind
  }

  /// Whether angles depend on the length of the whole sequence and not on the position alone.
  var dependsOnLength: Bool { if case .dynamic = kind { true } else { false } }

  /// Inverse frequencies of the `headDim / 2` feature pairs, and the factor on cosine and sine.
  /// - Parameter sequenceLength: used by `dynamic` only.
  func frequencies(headDim: Int, maxPositionEmbeddings: Int, sequenceLength: Int) -> (
    inverse: [Float], attentionFactor: Float
  ) {
    let plain = Self.inverseFrequencies(theta: theta, headDim: headDim)
    switch kind {
    case .standard: return (plain, 1)
    case .linear(let factor): return (plain.map { $0 / Float(factor) }, 1)
    case .dynamic(let factor):
      guard sequenceLength > maxPositionEmbeddings else { return (plain, 1) }
      let stretch = factor * Double(sequenceLength) / Double(maxPositionEmbeddings) - (factor - 1)
      let theta = theta * pow(stretch, Double(headDim) / Double(headDim - 2))
      return (Self.inverseFrequencies(theta: theta, headDim: headDim), 1)
    case .llama3(let factor, let low, let high, let original):
      return (
        plain.map { Self.llama3(Double($0), factor: factor, low: low, high: high, original: Double(original)) }, 1
      )
    case .yarn(let yarn): return yarn.frequencies(theta: theta, headDim: headDim)
    }
  }

  private static func inverseFrequencies(theta: Double, headDim: Int) -> [Float] {
    (0..<headDim / 2).map { 1 / Float(pow(theta, Double(Float(2 * $0) / Float(headDim)))) }
  }

  /// Long wavelengths are divided by `factor`, short ones kept, those between interpolated.
  private static func llama3(_ inverse: Double, factor: Double, low: Double, high: Double, original: Double) -> Float {
    let wavelength = 2 * Double.pi / inverse
    if wavelength < original / high { return Float(inverse) }
    if wavelength > original / low { return Float(inverse / factor) }
    let smooth = (original / wavelength - low) / (high - low)
    return Float((1 - smooth) * inverse / factor + smooth * inverse)
  }
}

extension RotaryConfiguration.Yarn {
  /// Features that turn often are kept, those that turn less than once are interpolated, with a ramp between (arXiv
  /// 2309.00071).
  fileprivate func frequencies(theta: Double, headDim: Int) -> (inverse: [Float], attentionFactor: Float) {
    func feature(turns: Double) -> Double {
      Double(headDim) * log(Double(originalMaxPositions) / (turns * 2 * .pi)) / (2 * log(theta))
    }
    var low = feature(turns: betaFast)
    var high = feature(turns: betaSlow)
    if truncate { (low, high) = (low.rounded(.down), high.rounded(.up)) }
    (low, high) = (max(low, 0), min(high, Double(headDim - 1)))
    if low == high { high += 0.001 }
    let inverse = (0..<headDim / 2).map { index in
      let frequency = 1 / pow(theta, Double(2 * index) / Double(headDim))
      let ramp = min(max((Double(index) - low) / (high - low), 0), 1)
      return Float(frequency / factor * ramp + frequency * (1 - ramp))
    }
    return (inverse, Float(attentionFactor ?? defaultAttentionFactor))
  }

  private var defaultAttentionFactor: Double {
    func magnitude(_ mscale: Double) -> Double { factor <= 1 ? 1 : 0.1 * mscale * log(factor) + 1 }
    if let mscale, let mscaleAllDim, mscale != 0, mscaleAllDim != 0 {
      return magnitude(mscale) / magnitude(mscaleAllDim)
    }
    return magnitude(1)
  }
}

extension RotaryConfiguration {
  /// Reads `rope_parameters` (transformers 5) or `rope_theta` and `rope_scaling` (before).
  init(huggingFace config: ConfigReader, maxPositionEmbeddings: Int) throws(DecoderError) {
    let key = config["rope_parameters"]?.object != nil ? "rope_parameters" : "rope_scaling"
    let isAbsent = config[key]?.isNull ?? true
    let scaling = try ConfigReader(
      isAbsent ? .object(JSONObject()) : config[key] ?? .null, name: "\(config.name): \(key)")
    let topTheta = try config.double("rope_theta")
    let ownTheta = try scaling.double("rope_theta")
    theta = ownTheta ?? topTheta ?? 10_000
    guard theta > 1, theta.isFinite else {
      throw .configuration("\(config.name): rope_theta is \(theta); expected more than 1")
    }
    let (newSpelling, oldSpelling) = (try scaling.string("rope_type"), try scaling.string("type"))
    let type = newSpelling ?? oldSpelling ?? "default"
    if let partial = try scaling.double("partial_rotary_factor"), partial != 1 {
      throw .configuration(
        "\(scaling.name): partial_rotary_factor is \(partial); this version rotates whole heads only")
    }
    let outside = try config.integer("original_max_position_embeddings")
    let inside = try scaling.integer("original_max_position_embeddings")
    let original = outside ?? inside ?? maxPositionEmbeddings
    kind = try Self.kind(type, scaling, original: original, maxPositionEmbeddings: maxPositionEmbeddings)
  }

  private static func kind(
    _ type: String, _ scaling: ConfigReader, original: Int, maxPositionEmbeddings: Int
  ) throws(DecoderError) -> Kind {
    func positive(_ key: String) throws(DecoderError) -> Double {
      let value = try scaling.requiredDouble(key)
      guard value > 0, value.isFinite else {
        throw .configuration("\(scaling.name): \(key) is \(value); expected more than 0")
      }
      return value
    }
    guard original > 0 else {
      throw .configuration("\(scaling.name): original_max_position_embeddings is \(original); expected more than 0")
    }
    switch type.possibleName {
    case "default": return .standard
    case "linear": return .linear(factor: try positive("factor"))
    case "dynamic": return .dynamic(factor: try positive("factor"))
    case "llama3":
      return .llama3(
        factor: try positive("factor"), lowFreqFactor: try positive("low_freq_factor"),
        highFreqFactor: try positive("high_freq_factor"), originalMaxPositions: original)
    case "yarn":
      let given = try scaling.double("factor")
      var yarn = Yarn(factor: given ?? Double(maxPositionEmbeddings) / Double(original), originalMaxPositions: original)
      // As in HF: 0 or null means the default.
      if let value = try scaling.double("beta_fast"), value != 0 { yarn.betaFast = value }
      if let value = try scaling.double("beta_slow"), value != 0 { yarn.betaSlow = value }
      yarn.attentionFactor = try scaling.double("attention_factor")
      yarn.mscale = try scaling.double("mscale")
      yarn.mscaleAllDim = try scaling.double("mscale_all_dim")
      yarn.truncate = try scaling.bool("truncate") ?? true
      return .yarn(yarn)
    default:
      throw .configuration(
        "\(scaling.name): rope_type is \"\(type)\"; this version knows default, linear, dynamic, llama3, yarn")
    }
  }

  /// The members of config.json that say the same, in the spelling both transformers 4 and 5 read.
  var huggingFaceMembers: [(key: String, value: JSONValue)] {
    var scaling: JSONObject
    switch kind {
    case .standard: return [("rope_scaling", .null), ("rope_theta", .double(theta))]
    case .linear(let factor): scaling = JSONObject([("factor", .double(factor)), ("rope_type", "linear")])
    case .dynamic(let factor): scaling = JSONObject([("factor", .double(factor)), ("rope_type", "dynamic")])
    case .llama3(let factor, let low, let high, let original):
      scaling = JSONObject([
        ("factor", .double(factor)), ("high_freq_factor", .double(high)), ("low_freq_factor", .double(low)),
        ("original_max_position_embeddings", .integer(original)), ("rope_type", "llama3"),
      ])
    case .yarn(let yarn):
      scaling = JSONObject([
        ("beta_fast", .double(yarn.betaFast)), ("beta_slow", .double(yarn.betaSlow)), ("factor", .double(yarn.factor)),
        ("original_max_position_embeddings", .integer(yarn.originalMaxPositions)), ("rope_type", "yarn"),
        ("truncate", .bool(yarn.truncate)),
      ])
      if let value = yarn.attentionFactor { scaling["attention_factor"] = .double(value) }
      if let value = yarn.mscale { scaling["mscale"] = .double(value) }
      if let value = yarn.mscaleAllDim { scaling["mscale_all_dim"] = .double(value) }
    }
    return [("rope_scaling", .object(scaling)), ("rope_theta", .double(theta))]
  }
}
