import Kernels
import Tensors

/// Memory for one micro-batch: what each layer keeps for its backward pass, and scratch that layers share. Taken once,
/// at start-up, for `limits`.
///
/// A layer keeps, per row, the residual stream before and after attention, q k v, the attention's output and
/// log-sum-exp, gate and up. Norms and silu(gate) * up are computed again in backward. A micro-batch with more rows than
/// everything can be kept for (one long pair) keeps less of some layers, which compute that part again; the results are
/// the same, bit for bit.
final class Activations {
  /// What one layer works in; every pointer is the first row's.
  struct Layer {
    /// `[rows, hiddenSize]`: the residual stream that enters the layer.
    var residual: UnsafeMutablePointer<Float>
    /// `[rows, qkvSize]`, after rotation.
    var qkv: UnsafeMutablePointer<Float>
    /// `[rows, querySize]`.
    var attention: UnsafeMutablePointer<Float>
    /// `[rows, numAttentionHeads]`.
    var lse: UnsafeMutablePointer<Float>
    /// `[rows, hiddenSize]`: the residual stream after attention.
    var middle: UnsafeMutablePointer<Float>
    /// `[rows, 2 * intermediateSize]`.
    var gateUp: UnsafeMutablePointer<Float>
    /// What is still there when backward comes.
    var kept = Kept.everything
  }

  /// What of a layer lasts until its backward pass, beside the residual stream that enters it.
  enum Kept: Equatable {
    case everything
    /// All but gate and up, which are wide and one product away.
    case attention
    case nothing
  }

  private let sizes: ActivationSizes
  private let limits: Decoder.MemoryLimits
  /// Whether layers keep anything (training) or all use the same memory (evaluation).
  let keepsLayers: Bool
  /// In training, of the micro-batch at hand: `arrange(rows:)`.
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
  /// `RMSNorm.sums * hiddenSize`: sums of norm gradients.
  let partials: UnsafeMutablePointer<Float>
  /// The left and the right factor of a product.
  let left, right: RoundingScratch
  private let kept: UnsafeMutablePointer<Float>
  private let memory: AlignedBuffer<Float>

  init(_ c: DecoderConfiguration, _ limits: Decoder.MemoryLimits, precision: ProductPrecision) {
    let sizes = ActivationSizes(c)
    self.sizes = sizes
    self.limits = limits
    keepsLayers = limits.training
    let half = c.headDim / 2
    let inner = max(c.intermediateSize, c.querySize)
    let narrow = max(inner, c.hiddenSize)
    let widest = max(2 * c.intermediateSize, c.qkvSize, narrow)
    let shared = [c.hiddenSize, half, half, c.hiddenSize, c.intermediateSize]
    let backward = limits.training ? [c.hiddenSize, c.hiddenSize, inner, c.qkvSize] : [0, 0, 0, 0]
    let rounding =
      precision == .bfloat16 ? [(widest + 1) / 2, limits.training ? (narrow + 1) / 2 : 0] : [0, 0]
    let rows = limits.rows
    let scratch = (shared + backward + rounding).map { ActivationSizes.padded($0 * rows) }
    let partials = ActivationSizes.padded(RMSNorm.sums * c.hiddenSize)
    let keptCount = sizes.keptCount(limits)
    memory = AlignedBuffer(count: scratch.reduce(0, +) + partials + keptCount)
    var next = memory.pointer
    func take(_ count: Int) -> UnsafeMutablePointer<Float> {
      defer { next += count }
      return next
    }
    final = take(scratch[0])
    cosine = take(scratch[1])
    sine = take(scratch[2])
    normed = take(scratch[3])
    activated = take(scratch[4])
    dResidual = take(scratch[5])
    dNormed = take(scratch[6])
    dInner = take(scratch[7])
    dQKV = take(scratch[8])
    func rounded(_ count: Int) -> RoundingScratch {
      let values = UnsafeMutableRawPointer(take(count)).assumingMemoryBound(to: BFloat16.self)
      return RoundingScratch(precision: precision, memory: values)
    }
    left = rounded(scratch[9])
    right = rounded(scratch[10])
    self.partials = take(partials)
    kept = next
    if !limits.training { layers = sizes.arrange(rows: rows, layers: 1, keeping: [.everything], in: kept) }
  }

  var bytes: Int { memory.bytes }

  /// Lays the layers out for a micro-batch of `rows` rows. Before its forward pass, in training.
  func arrange(rows: Int) {
    guard keepsLayers else { return }
    layers = sizes.arrange(
      rows: rows, layers: sizes.layers, keeping: sizes.kept(rows: rows, limits), in: kept)
  }

  /// The memory layer `index` works in, and where the residual stream goes that leaves it.
  func layer(_ index: Int) -> (Layer, next: UnsafeMutablePointer<Float>) {
    if keepsLayers { return (layers[index], index + 1 < sizes.layers ? layers[index + 1].residual : final) }
    var only = layers[0]
    if index % 2 == 0 { return (only, final) }
    let next = only.residual
    only.residual = final
    return (only, next)
  }

  /// Where the residual stream ends after all layers.
  var output: UnsafeMutablePointer<Float> { keepsLayers || sizes.layers % 2 == 1 ? final : layers[0].residual }
}
