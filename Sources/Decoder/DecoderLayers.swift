import Kernels
import Timeline

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
    pool.timeline.span("activation forward") {
      SwiGLU.forward(
        pool, rows: count, size: c.intermediateSize, memory.gateUp + first * 2 * c.intermediateSize, shared.activated)
    }
    let next = next + first * hidden
    next.update(from: memory.middle + first * hidden, count: count * hidden)
    linear(
      .down, shared.activated, layer.down, layer.downBias, rows: count, inputs: c.intermediateSize, outputs: hidden,
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
    linear(.qkv, shared.normed, layer.qkv, layer.qkvBias, rows: count, inputs: hidden, outputs: c.qkvSize, shared, qkv)
    rotate(qkv, rows: rows, shared, inverse: false)
    pool.timeline.span("attention forward") {
      attention.forward(
        segments, memory.qkv,
        factors: shared.left.matrix(pool, memory.qkv, rows: rows.upperBound, columns: c.qkvSize), memory.attention,
        lse: memory.lse)
    }
    let middle = memory.middle + first * hidden
    middle.update(from: x, count: count * hidden)
    linear(
      .output, memory.attention + first * c.querySize, layer.output, layer.outputBias, rows: count, inputs: c.querySize,
      outputs: hidden, accumulate: true, shared, middle)
  }

  /// Gate and up from `middle`.
  private func widen(_ index: Int, rows: Range<Int>, _ memory: Activations.Layer, _ shared: Activations) {
    let layer = places.layers[index]
    let (first, inner) = (rows.lowerBound, 2 * c.intermediateSize)
    norm(memory.middle + first * c.hiddenSize, weight: layer.postAttentionNorm, rows: rows.count, shared.normed)
    linear(
      .gateUp, shared.normed, layer.gateUp, layer.gateUpBias, rows: rows.count, inputs: c.hiddenSize, outputs: inner,
      shared,
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
    inputGradient(.down, dDown, layer.down, rows: rows, inputs: inner, outputs: hidden, shared.dInner)
    pool.timeline.span("activation backward") {
      SwiGLU.backward(pool, rows: rows, size: inner, shared.dInner, memory.gateUp, shared.activated)
    }
    weightGradient(
      .down, dX, dDown, shared.activated, layer.down, layer.downBias, rows: rows, inputs: inner, outputs: hidden,
      shared,
      gradients)
    norm(memory.middle, weight: layer.postAttentionNorm, rows: rows, shared.normed)
    linearBackward(
      .gateUp, memory.gateUp, shared.normed, layer.gateUp, layer.gateUpBias, rows: rows, inputs: hidden,
      outputs: 2 * inner,
      shared, shared.dNormed, gradients)
    normBackward(memory.middle, weight: layer.postAttentionNorm, rows: rows, shared, gradients)

    // Attention.
    linearBackward(
      .output, dX, memory.attention, layer.output, layer.outputBias, rows: rows, inputs: c.querySize, outputs: hidden,
      shared,
      shared.dInner, gradients)
    pool.timeline.span("attention backward") {
      attention.backward(
        families, memory.qkv, factors: shared.left.matrix(pool, memory.qkv, rows: rows, columns: c.qkvSize),
        output: memory.attention, lse: memory.lse, dOutput: shared.dInner, shared.dQKV)
    }
    rotate(shared.dQKV, rows: 0..<rows, shared, inverse: true)
    norm(memory.residual, weight: layer.inputNorm, rows: rows, shared.normed)
    linearBackward(
      .qkv, shared.dQKV, shared.normed, layer.qkv, layer.qkvBias, rows: rows, inputs: hidden, outputs: c.qkvSize,
      shared,
      shared.dNormed, gradients)
    normBackward(memory.residual, weight: layer.inputNorm, rows: rows, shared, gradients)
  }

  func norm(_ x: UnsafePointer<Float>, weight: Int, rows: Int, _ y: UnsafeMutablePointer<Float>) {
    pool.timeline.span("norm forward") {
      RMSNorm.forward(
        pool, rows: rows, size: c.hiddenSize, epsilon: c.rmsNormEps, x, weight: weights.values + weight, y)
    }
  }

  /// `shared.dResidual += ` the gradient of `norm` given `shared.dNormed`.
  func normBackward(
    _ x: UnsafePointer<Float>, weight: Int, rows: Int, _ shared: Activations, _ gradients: UnsafeMutablePointer<Float>
  ) {
    pool.timeline.span("norm backward") {
      RMSNorm.backward(
        pool, rows: rows, size: c.hiddenSize, epsilon: c.rmsNormEps, x, weight: weights.values + weight,
        shared.dNormed, shared.dResidual, dWeight: gradients + weight, partials: shared.partials)
    }
  }

  /// Y (+)= X W^T + b.
  private func linear(
    _ span: ProductSpans, _ x: UnsafePointer<Float>, _ weight: Int, _ bias: Int?, rows: Int, inputs: Int, outputs: Int,
    accumulate: Bool = false, _ shared: Activations, _ y: UnsafeMutablePointer<Float>
  ) {
    pool.timeline.span(span.forward) {
      Matmul.linear(
        pool, rows: rows, inputs: inputs, outputs: outputs,
        shared.left.matrix(pool, x, rows: rows, columns: inputs), weight: weights.matrix(weight, columns: inputs),
        accumulate: accumulate, y)
    }
    if let bias { Bias.forward(pool, rows: rows, size: outputs, bias: weights.values + bias, y) }
  }

  /// dW += dY^T X, db += the sum of dY's rows, dX = dY W.
  private func linearBackward(
    _ span: ProductSpans, _ dY: UnsafePointer<Float>, _ x: UnsafePointer<Float>, _ weight: Int, _ bias: Int?, rows: Int,
    inputs: Int,
    outputs: Int, _ shared: Activations, _ dX: UnsafeMutablePointer<Float>, _ gradients: UnsafeMutablePointer<Float>
  ) {
    let left = shared.left.matrix(pool, dY, rows: rows, columns: outputs)
    weightGradient(
      span, dY, left, x, weight, bias, rows: rows, inputs: inputs, outputs: outputs, shared, gradients)
    inputGradient(span, left, weight, rows: rows, inputs: inputs, outputs: outputs, dX)
  }

  /// dX = dY W.
  private func inputGradient(
    _ span: ProductSpans, _ dY: MatrixOperand, _ weight: Int, rows: Int, inputs: Int, outputs: Int,
    _ dX: UnsafeMutablePointer<Float>
  ) {
    pool.timeline.span(span.inputGradient) {
      Matmul.inputGradient(
        pool, rows: rows, inputs: inputs, outputs: outputs, dY, weight: weights.matrix(weight, columns: inputs), dX)
    }
  }

  /// dW += dY^T X, db += the sum of dY's rows; `left` is dY as products take it.
  private func weightGradient(
    _ span: ProductSpans, _ dY: UnsafePointer<Float>, _ left: MatrixOperand, _ x: UnsafePointer<Float>, _ weight: Int,
    _ bias: Int?,
    rows: Int, inputs: Int, outputs: Int, _ shared: Activations, _ gradients: UnsafeMutablePointer<Float>
  ) {
    pool.timeline.span(span.weightGradient) {
      Matmul.weightGradient(
        pool, rows: rows, inputs: inputs, outputs: outputs, left,
        shared.right.matrix(pool, x, rows: rows, columns: inputs), gradients + weight)
    }
    if let bias { Bias.backward(pool, rows: rows, size: outputs, dY, dBias: gradients + bias) }
  }

  /// Turns queries and keys, which lie side by side, by the rows' angles.
  private func rotate(_ qkv: UnsafeMutablePointer<Float>, rows: Range<Int>, _ shared: Activations, inverse: Bool) {
    let half = c.headDim / 2
    pool.timeline.span(inverse ? "rotary backward" : "rotary forward") {
      RotaryEmbedding.rotate(
        pool, rows: rows.count, heads: c.numAttentionHeads + c.numKeyValueHeads, headDim: c.headDim,
        rotaryDim: c.headDim, stride: c.qkvSize, cosine: shared.cosine + rows.lowerBound * half,
        sine: shared.sine + rows.lowerBound * half, inverse: inverse, qkv)
    }
  }
}

/// What the three products of a linear layer are called in a timeline.
private struct ProductSpans {
  let forward, inputGradient, weightGradient: StaticString

  static let qkv = ProductSpans(
    forward: "qkv forward", inputGradient: "qkv input gradient", weightGradient: "qkv weight gradient")
  static let output = ProductSpans(
    forward: "attention output forward", inputGradient: "attention output input gradient",
    weightGradient: "attention output weight gradient")
  static let gateUp = ProductSpans(
    forward: "gate up forward", inputGradient: "gate up input gradient", weightGradient: "gate up weight gradient")
  static let down = ProductSpans(
    forward: "down forward", inputGradient: "down input gradient", weightGradient: "down weight gradient")
}
