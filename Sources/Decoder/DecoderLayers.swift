import Kernels

/// The transformer layers: forward and hand-written backward over packed rows. Knows nothing of tokens or losses.
struct DecoderLayers {
  let configuration: DecoderConfiguration
  let places: DecoderParameters
  let pool: ThreadPool
  let weights: DecoderWeights
  let attention: SegmentAttention

  private var c: DecoderConfiguration { configuration }

  /// One layer over `rows`: reads `memory.residual`, fills the rest of `memory`, writes the residual stream that leaves
  /// it to `next`.
  ///
  /// x' = x + O(attention(rope(QKV(norm(x))))), then x'' = x' + D(silu(G(norm(x'))) * U(norm(x'))).
  func forward(
    _ index: Int, rows: Range<Int>, segments: [SegmentAttention.Segment], _ memory: Activations.Layer,
    _ shared: Activations, next: UnsafeMutablePointer<Float>
  ) {
    attend(index, rows: rows, segments: segments, memory, shared)
    widen(index, rows: rows, memory, shared)
    let layer = places.layers[index]
    let (hidden, count, first) = (c.hiddenSize, rows.count, rows.lowerBound)
    SwiGLU.forward(
      pool, rows: count, size: c.intermediateSize, memory.gateUp + first * 2 * c.intermediateSize, shared.activated)
    let next = next + first * hidden
    next.update(from: memory.middle + first * hidden, count: count * hidden)
    linear(
      shared.activated, layer.down, layer.downBias, rows: count, inputs: c.intermediateSize, outputs: hidden,
      accumulate: true, shared, next)
  }

  /// The attention half: q k v, the attention's output and `middle` from `residual`.
  private func attend(
    _ index: Int, rows: Range<Int>, segments: [SegmentAttention.Segment], _ memory: Activations.Layer,
    _ shared: Activations
  ) {
    let layer = places.layers[index]
    let (hidden, count, first) = (c.hiddenSize, rows.count, rows.lowerBound)
    let x = memory.residual + first * hidden
    let qkv = memory.qkv + first * c.qkvSize
    norm(x, weight: layer.inputNorm, rows: count, shared.normed)
    linear(shared.normed, layer.qkv, layer.qkvBias, rows: count, inputs: hidden, outputs: c.qkvSize, shared, qkv)
    rotate(qkv, rows: rows, shared, inverse: false)
    attention.forward(
      segments, memory.qkv,
      factors: shared.left.matrix(pool, memory.qkv, rows: rows.upperBound, columns: c.qkvSize), memory.attention,
      lse: memory.lse)
    let middle = memory.middle + first * hidden
    middle.update(from: x, count: count * hidden)
    linear(
      memory.attention + first * c.querySize, layer.output, layer.outputBias, rows: count, inputs: c.querySize,
      outputs: hidden, accumulate: true, shared, middle)
  }

  /// Gate and up from `middle`.
  private func widen(_ index: Int, rows: Range<Int>, _ memory: Activations.Layer, _ shared: Activations) {
    let layer = places.layers[index]
    let (first, inner) = (rows.lowerBound, 2 * c.intermediateSize)
    norm(memory.middle + first * c.hiddenSize, weight: layer.postAttentionNorm, rows: rows.count, shared.normed)
    linear(
      shared.normed, layer.gateUp, layer.gateUpBias, rows: rows.count, inputs: c.hiddenSize, outputs: inner, shared,
      memory.gateUp + first * inner)
  }

  /// Turns `shared.dResidual` from the gradient of what leaves the layer into that of what enters it; adds to
  /// `gradients`. `memory.gateUp` is overwritten.
  func backward(
    _ index: Int, rows: Int, families: [[SegmentAttention.Segment]], _ memory: Activations.Layer, _ shared: Activations,
    gradients: UnsafeMutablePointer<Float>
  ) {
    if memory.kept == .nothing {
      attend(index, rows: 0..<rows, segments: families.flatMap { $0 }, memory, shared)
    }
    if memory.kept != .everything { widen(index, rows: 0..<rows, memory, shared) }

    let layer = places.layers[index]
    let (hidden, inner) = (c.hiddenSize, c.intermediateSize)
    let dX = shared.dResidual

    // MLP; the gradients of gate and up take the place of their values. dW of the last product comes second: its factor
    // is computed on the way.
    let dDown = shared.left.matrix(pool, dX, rows: rows, columns: hidden)
    Matmul.inputGradient(
      pool, rows: rows, inputs: inner, outputs: hidden, dDown, weight: weights.matrix(layer.down, columns: inner),
      shared.dInner)
    SwiGLU.backward(pool, rows: rows, size: inner, shared.dInner, memory.gateUp, shared.activated)
    weightGradient(
      dX, dDown, shared.activated, layer.down, layer.downBias, rows: rows, inputs: inner, outputs: hidden, shared,
      gradients)
    norm(memory.middle, weight: layer.postAttentionNorm, rows: rows, shared.normed)
    linearBackward(
      memory.gateUp, shared.normed, layer.gateUp, layer.gateUpBias, rows: rows, inputs: hidden, outputs: 2 * inner,
      shared, shared.dNormed, gradients)
    normBackward(memory.middle, weight: layer.postAttentionNorm, rows: rows, shared, gradients)

    // Attention.
    linearBackward(
      dX, memory.attention, layer.output, layer.outputBias, rows: rows, inputs: c.querySize, outputs: hidden, shared,
      shared.dInner, gradients)
    attention.backward(
      families, memory.qkv, factors: shared.left.matrix(pool, memory.qkv, rows: rows, columns: c.qkvSize),
      output: memory.attention, lse: memory.lse, dOutput: shared.dInner, shared.dQKV)
    rotate(shared.dQKV, rows: 0..<rows, shared, inverse: true)
    norm(memory.residual, weight: layer.inputNorm, rows: rows, shared.normed)
    linearBackward(
      shared.dQKV, shared.normed, layer.qkv, layer.qkvBias, rows: rows, inputs: hidden, outputs: c.qkvSize, shared,
      shared.dNormed, gradients)
    normBackward(memory.residual, weight: layer.inputNorm, rows: rows, shared, gradients)
  }

  func norm(_ x: UnsafePointer<Float>, weight: Int, rows: Int, _ y: UnsafeMutablePointer<Float>) {
    RMSNorm.forward(
      pool, rows: rows, size: c.hiddenSize, epsilon: c.rmsNormEps, x, weight: weights.values + weight, y)
  }

  /// `shared.dResidual += ` the gradient of `norm` given `shared.dNormed`.
  func normBackward(
    _ x: UnsafePointer<Float>, weight: Int, rows: Int, _ shared: Activations, _ gradients: UnsafeMutablePointer<Float>
  ) {
    RMSNorm.backward(
      pool, rows: rows, size: c.hiddenSize, epsilon: c.rmsNormEps, x, weight: weights.values + weight, shared.dNormed,
      shared.dResidual, dWeight: gradients + weight, partials: shared.partials)
  }

  /// Y (+)= X W^T + b.
  private func linear(
    _ x: UnsafePointer<Float>, _ weight: Int, _ bias: Int?, rows: Int, inputs: Int, outputs: Int,
    accumulate: Bool = false, _ shared: Activations, _ y: UnsafeMutablePointer<Float>
  ) {
    Matmul.linear(
      pool, rows: rows, inputs: inputs, outputs: outputs,
      shared.left.matrix(pool, x, rows: rows, columns: inputs), weight: weights.matrix(weight, columns: inputs),
      accumulate: accumulate, y)
    if let bias { Bias.forward(pool, rows: rows, size: outputs, bias: weights.values + bias, y) }
  }

  /// dW += dY^T X, db += the sum of dY's rows, dX = dY W.
  private func linearBackward(
    _ dY: UnsafePointer<Float>, _ x: UnsafePointer<Float>, _ weight: Int, _ bias: Int?, rows: Int, inputs: Int,
    outputs: Int, _ shared: Activations, _ dX: UnsafeMutablePointer<Float>, _ gradients: UnsafeMutablePointer<Float>
  ) {
    let left = shared.left.matrix(pool, dY, rows: rows, columns: outputs)
    weightGradient(
      dY, left, x, weight, bias, rows: rows, inputs: inputs, outputs: outputs, shared, gradients)
    Matmul.inputGradient(
      pool, rows: rows, inputs: inputs, outputs: outputs, left, weight: weights.matrix(weight, columns: inputs), dX)
  }

  /// dW += dY^T X, db += the sum of dY's rows; `left` is dY as products take it.
  private func weightGradient(
    _ dY: UnsafePointer<Float>, _ left: MatrixOperand, _ x: UnsafePointer<Float>, _ weight: Int, _ bias: Int?,
    rows: Int, inputs: Int, outputs: Int, _ shared: Activations, _ gradients: UnsafeMutablePointer<Float>
  ) {
    Matmul.weightGradient(
      pool, rows: rows, inputs: inputs, outputs: outputs, left,
      shared.right.matrix(pool, x, rows: rows, columns: inputs), gradients + weight)
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
