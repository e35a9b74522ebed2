import Tensors

/// Where the decoder's tensors lie in the parameter arena.
///
/// The order is that in which backward finishes gradients: head, final norm, layers from the last to the first,
/// embedding. Tensors that are multiplied together (q, k, v; gate, up) lie side by side, so one product does for all of
/// them.
struct DecoderParameters: Sendable {
  struct Layer: Sendable {
    var inputNorm, qkv, output, postAttentionNorm, gateUp, down: Int
    var qkvBias, outputBias, gateUpBias, downBias: Int?
    /// Where the layer ends: everything before is finished once its backward is done.
    var end: Int
  }

  var layout = ParameterLayout()
  var layers: [Layer] = []
  var finalNorm = 0
  var embedding = 0
  /// The same as `embedding` when tied.
  var head = 0
  /// End of what is finished when the head's backward is done.
  var headEnd = 0

  init(_ configuration: DecoderConfiguration) {
    let (vocabulary, hidden) = (configuration.vocabSize, configuration.hiddenSize)
    if !configuration.tieWordEmbeddings { head = layout.append("lm_head.weight", [vocabulary, hidden]) }
    finalNorm = layout.append("model.norm.weight", [hidden], decays: false)
    headEnd = layout.count
    for index in (0..<configuration.numHiddenLayers).reversed() {
      layers.append(Self.layer(index, configuration, &layout))
    }
    layers.reverse()
    embedding = layout.append("model.embed_tokens.weight", [vocabulary, hidden])
    if configuration.tieWordEmbeddings { head = embedding }
  }

  private static func layer(_ index: Int, _ configuration: DecoderConfiguration, _ layout: inout ParameterLayout)
    -> Layer
  {
    let (hidden, intermediate) = (configuration.hiddenSize, configuration.intermediateSize)
    let prefix = "model.layers.\(index)."
    func linear(_ names: [(String, Int)], inputs: Int, bias: Bool) -> (weight: Int, bias: Int?) {
      let weights = names.map { layout.append("\(prefix)\($0.0).weight", [$0.1, inputs]) }
      let biases = bias ? names.map { layout.append("\(prefix)\($0.0).bias", [$0.1], decays: false) } : []
      return (weights[0], biases.first)
    }
    let down = linear([("mlp.down_proj", hidden)], inputs: intermediate, bias: configuration.mlpBias)
    let gateUp = linear(
      [("mlp.gate_proj", intermediate), ("mlp.up_proj", intermediate)], inputs: hidden, bias: configuration.mlpBias)
    let postAttentionNorm = layout.append("\(prefix)post_attention_layernorm.weight", [hidden], decays: false)
    let output = linear(
      [("self_attn.o_proj", hidden)], inputs: configuration.querySize, bias: configuration.attentionBias)
    let qkv = linear(
      [
        ("self_attn.q_proj", configuration.querySize), ("self_attn.k_proj", configuration.keySize),
        ("self_attn.v_proj", configuration.keySize),
      ], inputs: hidden, bias: configuration.attentionBias)
    let inputNorm = layout.append("\(prefix)input_layernorm.weight", [hidden], decays: false)
    return Layer(
      inputNorm: inputNorm, qkv: qkv.weight, output: output.weight, postAttentionNorm: postAttentionNorm,
      gateUp: gateUp.weight, down: down.weight, qkvBias: qkv.bias, outputBias: output.bias, gateUpBias: gateUp.bias,
      downBias: down.bias, end: layout.count)
  }
}
