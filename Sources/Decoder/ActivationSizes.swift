/// How much memory layers keep for backward, and how it is dealt out.
struct ActivationSizes {
  let layers: Int
  /// Floats per row of each part.
  private let residual: Int
  private let attentionParts: [Int]
  private let gateUp: Int

  init(_ c: DecoderConfiguration) {
    layers = c.numHiddenLayers
    residual = c.hiddenSize
    attentionParts = [c.qkvSize, c.querySize, c.numAttentionHeads, c.hiddenSize]
    gateUp = 2 * c.intermediateSize
  }

  /// Every array begins on a cache line.
  static func padded(_ count: Int) -> Int { (count + 15) / 16 * 16 }

  /// Floats that `rows` rows of one layer take, part by part.
  private func counts(rows: Int) -> (residual: Int, attention: Int, gateUp: Int) {
    (
      Self.padded(residual * rows), attentionParts.reduce(0) { $0 + Self.padded($1 * rows) },
      Self.padded(gateUp * rows)
    )
  }

  /// Floats to reserve: everything of `keptRows` rows, and in any case what the longest micro-batch needs to get
  /// through at all.
  func keptCount(_ limits: Decoder.MemoryLimits) -> Int {
    let longest = counts(rows: limits.rows)
    let least = longest.residual + longest.attention + longest.gateUp
    guard limits.training else { return least }
    let all = counts(rows: min(limits.keptRows, limits.rows))
    return max(
      limits.checkpointing ? 0 : layers * (all.residual + all.attention + all.gateUp),
      (layers - 1) * longest.residual + least)
  }

  /// What each layer keeps of a micro-batch of `rows` rows, as far as the memory goes: first gate and up are given up,
  /// then the attention's part.
  func kept(rows: Int, _ limits: Decoder.MemoryLimits) -> [Activations.Kept] {
    if limits.checkpointing { return [Activations.Kept](repeating: .nothing, count: layers) }
    let one = counts(rows: rows)
    var free = keptCount(limits) - layers * one.residual
    if free >= layers * (one.attention + one.gateUp) {
      return [Activations.Kept](repeating: .everything, count: layers)
    }
    // One place for gate and up is shared by the layers that do not keep theirs.
    free -= one.gateUp
    if free >= layers * one.attention {
      let whole = min((free - layers * one.attention) / one.gateUp, layers - 1)
      return (0..<layers).map { $0 < whole ? .everything : .attention }
    }
    free -= one.attention
    let halves = min(free / one.attention, layers - 1)
    return (0..<layers).map { $0 < halves ? .attention : .nothing }
  }

  /// Deals `memory` out to `count` layers.
  func arrange(
    rows: Int, layers count: Int, keeping: [Activations.Kept], in memory: UnsafeMutablePointer<Float>
  ) -> [Activations.Layer] {
    var next = memory
    func take(_ perRow: Int) -> UnsafeMutablePointer<Float> {
      defer { next += Self.padded(perRow * rows) }
      return next
    }
    let sharedGateUp = keeping.contains { $0 != .everything } ? take(gateUp) : nil
    let sharedAttention = keeping.contains(.nothing) ? attentionParts.map(take) : nil
    return (0..<count).map { index in
      // What the last layer leaves in shared memory is still there when its backward comes, the first of all.
      let kept = index == count - 1 ? .everything : keeping[index]
      let attention = keeping[index] == .nothing ? sharedAttention ?? [] : attentionParts.map(take)
      return Activations.Layer(
        residual: take(residual), qkv: attention[0], attention: attention[1], lse: attention[2], middle: attention[3],
        gateUp: keeping[index] == .everything ? take(gateUp) : sharedGateUp ?? next, kept: kept)
    }
  }
}
