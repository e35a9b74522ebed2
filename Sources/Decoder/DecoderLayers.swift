import Kernels

/// The transformer layers: forward and hand-written backward over packed rows. Knows nothing of tokens or losses.
struct DecoderLayers {
  let configuration: DecoderConfiguration
  let places: DecoderParameters
  let pool: ThreadPool
  let parameters: UnsafeMutablePointer<Float>
  let attention: SegmentAttention

  private var c: DecoderConfiguration { configuration }

  /// One layer over `rows`: reads `memory.residual`, fills the rest of `memory`, writes the residual stream that leaves
  /// it to `next`.
  ///
  /// x' = x + O(attention(rope(QKV(norm(x))))), then x'' = x' + D(silu(G(norm(x'))) * U(norm(x'))).
  func forward(
    _ index: Int, rows: Range<Int>, segments: [SegmentAttention.Segment], _ memory: Activations.Layer,
    _ shared: Activations,
    next: UnsafeMutablePointer<Float>
  ) {
    let layer = places.layers[index]
    let (hidden, count, first) = (c.hiddenSize, rows.count, rows.lowerBound)
    let x = memory.residual + first * hidden
    let qkv = memory.qkv + first * c.qkvSize
    let middle = memory.middle + first * hidden
    let next = next + first * hidden
    let normed = shared.normed

    norm(x, weight: layer.inputNorm, rows: count, normed)
    linear(normed, layer.qkv, layer.qkvBias, rows: count, inputs: hidden, outputs: c.qkvSize, qkv)
    rotate(qkv, rows: rows, shared, inverse: false)
    attention.forward(segments, memory.qkv, memory.attention, lse: memory.lse)

    middle.update(from: x, count: count * hidden)
    linear(
      memory.attention + first * c.querySize, layer.output, layer.outputBias, rows: count, inputs: c.querySize,
      outputs: hidden, accumulate: true, middle)

    norm(middle, weight: layer.postAttentionNorm, rows: count, normed)
    let gateUp = memory.gateUp + first * 2 * c.intermediateSize
    linear(normed, layer.gateUp, layer.gateUpBias, rows: count, inputs: hidden, outputs: 2 * c.intermediateSize, gateUp)
    SwiGLU.forward(pool, rows: count, size: c.intermediateSize, gateUp, shared.activated)
    next.update(from: middle, count: count * hidden)
    linear(
      shared.activated, layer.down, layer.downBias, rows: count, inputs: c.intermediateSize, outputs: hidden,
      accumulate: true, next)
  }

  /// Turns `shared.dResidual` from the gradient of what leaves the layer into that of what enters it; adds to
  /// `gradients`. `memory.gateUp` is overwritten.
  func backward(
    _ index: Int, rows: Int, families: [[SegmentAttention.Segment]], _ memory: Activations.Layer, _ shared: Activations,
    gradients: UnsafeMutablePointer<Float>
  ) {
    let layer = places.layers[index]
    let (hidden, inner) = (c.hiddenSize, c.intermediateSize)
    let dX = shared.dResidual

    // MLP. dA = dX D, then the gradients of gate and up take the place of their values.
    SwiGLU.forward(pool, rows: rows, size: inner, memory.gateUp, shared.activated)
    linearGradient(
      dX, shared.activated, layer.down, layer.downBias, rows: rows, inputs: inner, outputs: hidden, gradients)
    Matmul.inputGradient(
      pool, rows: rows, inputs: inner, outputs: hidden, dX, weight: parameters + layer.down, shared.dInner)
    SwiGLU.backward(pool, rows: rows, size: inner, shared.dInner, memory.gateUp)
    norm(memory.middle, weight: layer.postAttentionNorm, rows: rows, shared.normed)
    linearGradient(
      memory.gateUp, shared.normed, layer.gateUp, layer.gateUpBias, rows: rows, inputs: hidden, outputs: 2 * inner,
      gradients)
    Matmul.inputGradient(
      pool, rows: rows, inputs: hidden, outputs: 2 * inner, memory.gateUp, weight: parameters + layer.gateUp,
      shared.dNormed)
    normBackward(memory.middle, weight: layer.postAttentionNorm, rows: rows, shared, gradients)

    // Attention.
    linearGradient(
      dX, memory.attention, layer.output, layer.outputBias, rows: rows, inputs: c.querySize, outputs: hidden, gradients)
    Matmul.inputGradient(
      pool, rows: rows, inputs: c.querySize, outputs: hidden, dX, weight: parameters + layer.output, shared.dInner)
    attention.backward(
      families, memory.qkv, output: memory.attention, lse: memory.lse, dOutput: shared.dInner, shared.dQKV)
    rotate(shared.dQKV, rows: 0..<rows, shared, inverse: true)
    norm(memory.residual, weight: layer.inputNorm, rows: rows, shared.normed)
    linearGradient(
      shared.dQKV, shared.normed, layer.qkv, layer.qkvBias, rows: rows, inputs: hidden, outputs: c.qkvSize, gradients)
    Matmul.inputGradient(
      pool, rows: rows, inputs: hidden, outputs: c.qkvSize, shared.dQKV, weight: parameters + layer.qkv, shared.dNormed)
    normBackward(memory.residual, weight: layer.inputNorm, rows: rows, shared, gradients)
  }

  func norm(_ x: UnsafePointer<Float>, weight: Int, rows: Int, _ y: UnsafeMutablePointer<Float>) {
    RMSNorm.forward(
      pool, rows: rows, size: c.hiddenSize, epsilon: c.rmsNormEps, x, weight: parameters + weight, y)
  }

  /// `shared.dResidual += ` the gradient of `norm` given `shared.dNormed`.
  func normBackward(
    _ x: UnsafePointer<Float>, weight: Int, rows: Int, _ shared: Activations, _ gradients: UnsafeMutablePointer<Float>
  ) {
    RMSNorm.backward(
      pool, rows: rows, size: c.hiddenSize, epsilon: c.rmsNormEps, x, weight: parameters + weight, shared.dNormed,
      shared.dResidual, dWeight: gradients + weight, partials: shared.partials)
  }

  private func linear(
    _ x: UnsafePointer<Float>, _ weight: Int, _ bias: Int?, rows: Int, inputs: Int, outputs: Int,
    accumulate: Bool = false,
    _ y: UnsafeMutablePointer<Float>
  ) {
    Matmul.linear(
      pool, rows: rows, inputs: inputs, outputs: outputs, x, weight: parameters + weight, accumulate: accumulate, y)
    if let bias { Bias.forward(pool, rows: rows, size: outputs, bias: parameters + bias, y) }
  }

  private func linearGradient(
    _ dY: UnsafePointer<Float>, _ x: UnsafePointer<Float>, _ weight: Int, _ bias: Int?, rows: Int, inputs: Int,
    outputs: Int,
    _ gradients: UnsafeMutablePointer<Float>
  ) {
    Matmul.weightGradient(pool, rows: rows, inputs: inputs, outputs: outputs, dY, x, gradients + weight)
    if let bias { Bias.backward(pool, rows: rows, size: outputs, dY, dBias: gradients + bias) }
  }

  /// Turns queries and keys, which lie side by side, by the rows' angles.
  private func rotate(_ qkv: UnsafeMutablePointer<Float>, rows: Range<Int>, _ shared: Activations, inverse: Bool) {
    let half = c.headDim / 2
    RotaryEmbedding.rotate(
      pool, rows: rows.count, heads: c.numAttentionHeads + c.numKeyValueHeads, headDim: c.headDim, rotaryDim: c.headDim,
      stride: c.qkvSize, cosine: shared.cosine + rows.lowerBound * half, sine: shared.sine + rows.lowerBound * half,
      inverse: inverse, qkv)
  }
}
