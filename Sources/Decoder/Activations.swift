import Tensors

/// Memory for one micro-batch: what each layer keeps for its backward pass, and scratch that layers share. Taken once,
/// at start-up.
///
/// Kept per row and layer: the residual stream before and after attention, q k v, the attention's output and
/// log-sum-exp, gate and up. Norms and silu(gate) * up are computed again in backward.
final class Activations {
  /// What one layer keeps; every pointer is the first row's.
  struct Layer {
    /// `[rows, hiddenSize]`: the residual stream that enters the layer.
    let residual: UnsafeMutablePointer<Float>
    /// `[rows, qkvSize]`, after rotation.
    let qkv: UnsafeMutablePointer<Float>
    /// `[rows, querySize]`.
    let attention: UnsafeMutablePointer<Float>
    /// `[rows, numAttentionHeads]`.
    let lse: UnsafeMutablePointer<Float>
    /// `[rows, hiddenSize]`: the residual stream after attention.
    let middle: UnsafeMutablePointer<Float>
    /// `[rows, 2 * intermediateSize]`.
    let gateUp: UnsafeMutablePointer<Float>
  }

  let rows: Int
  /// Whether every layer keeps its own memory (training) or all use the same (evaluation).
  let keepsLayers: Bool
  private(set) var layers: [Layer] = []
  /// The residual stream that leaves the last layer; in evaluation also the one between layers, in turns with
  /// `layers[0].residual`.
  let final: UnsafeMutablePointer<Float>
  /// `[rows, headDim / 2]`.
  let cosine, sine: UnsafeMutablePointer<Float>
  /// `[rows, hiddenSize]`: a norm's output, later its gradient.
  let normed: UnsafeMutablePointer<Float>
  /// `[rows, intermediateSize]`: silu(gate) * up.
  let activated: UnsafeMutablePointer<Float>
  /// `[rows, hiddenSize]`: the gradient of the residual stream.
  let dResidual: UnsafeMutablePointer<Float>
  /// `[rows, hiddenSize]`.
  let dNormed: UnsafeMutablePointer<Float>
  /// `[rows, max(intermediateSize, querySize)]`: the gradient of `activated` or of the attention's output.
  let dInner: UnsafeMutablePointer<Float>
  /// `[rows, qkvSize]`.
  let dQKV: UnsafeMutablePointer<Float>
  /// `threads * hiddenSize`: sums of norm gradients.
  let partials: UnsafeMutablePointer<Float>
  private let memory: AlignedBuffer<Float>

  init(_ c: DecoderConfiguration, rows: Int, threads: Int, training: Bool) {
    self.rows = rows
    keepsLayers = training
    let count = training ? c.numHiddenLayers : 1
    let sizes = [c.hiddenSize, c.qkvSize, c.querySize, c.numAttentionHeads, c.hiddenSize, 2 * c.intermediateSize]
    let half = c.headDim / 2
    let shared = [c.hiddenSize, half, half, c.hiddenSize, c.intermediateSize]
    let backward =
      training ? [c.hiddenSize, c.hiddenSize, max(c.intermediateSize, c.querySize), c.qkvSize] : [0, 0, 0, 0]
    /// Every array begins on a cache line.
    func padded(_ perRow: Int) -> Int { (perRow * rows + 15) / 16 * 16 }
    let total =
      count * sizes.map(padded).reduce(0, +) + (shared + backward).map(padded).reduce(0, +) + threads * c.hiddenSize
      + 16
    memory = AlignedBuffer<Float>(count: total)
    var next = memory.pointer
    func take(_ perRow: Int) -> UnsafeMutablePointer<Float> {
      defer { next += padded(perRow) }
      return next
    }
    for _ in 0..<count {
      layers.append(
        Layer(
          residual: take(sizes[0]), qkv: take(sizes[1]), attention: take(sizes[2]), lse: take(sizes[3]),
          middle: take(sizes[4]), gateUp: take(sizes[5])))
    }
    final = take(shared[0])
    cosine = take(shared[1])
    sine = take(shared[2])
    normed = take(shared[3])
    activated = take(shared[4])
    dResidual = take(backward[0])
    dNormed = take(backward[1])
    dInner = take(backward[2])
    dQKV = take(backward[3])
    partials = next
  }

  var bytes: Int { memory.bytes }

  /// The memory layer `index` works in, and where the residual stream goes that leaves it.
  func layer(_ index: Int, of count: Int) -> (Layer, next: UnsafeMutablePointer<Float>) {
    if keepsLayers { return (layers[index], index + 1 < count ? layers[index + 1].residual : final) }
    let only = layers[0]
    if index % 2 == 0 { return (only, final) }
    return (
      Layer(
        residual: final, qkv: only.qkv, attention: only.attention, lse: only.lse, middle: only.middle,
        gateUp: only.gateUp),
      only.residual
    )
  }

  /// Where the residual stream ends after `count` layers.
  func output(of count: Int) -> UnsafeMutablePointer<Float> {
    keepsLayers || count % 2 == 1 ? final : layers[0].residual
  }
}
