package import Kernels
package import Packing
package import Tensors
import Timeline

/// The language model: packed pairs to log-probabilities of their labels, and weights on those back to gradients of the
/// parameters.
package final class Decoder {
  package let configuration: DecoderConfiguration
  /// All parameters, laid out as `layout` says.
  package let parameters: UnsafeMutableBufferPointer<Float>
  package var layout: ParameterLayout { places.layout }
  /// Of matrix products.
  package var precision: ProductPrecision { weights.precision }

  let places: DecoderParameters
  let pool: ThreadPool
  let weights: DecoderWeights
  private let arena: AlignedBuffer<Float>
  let angles: RotaryAngles
  private var memory: Memory?

  /// What a run needs beside the parameters, sized once for its largest micro-batch.
  private struct Memory {
    let limits: MemoryLimits
    let activations: Activations
    let head: LanguageModelHead
    let scratch: AlignedScratch

    init(
      _ c: DecoderConfiguration, _ limits: MemoryLimits, pool: ThreadPool, threads: Int, _ precision: ProductPrecision
    ) {
      self.limits = limits
      scratch = AlignedScratch(c.attentionShape, threads: threads, maxKeys: limits.sequence)
      activations = Activations(c, limits, precision: precision)
      head = LanguageModelHead(
        c, pool: pool, rows: limits.rows, keptRows: limits.keptRows,
        logitsBudget: limits.training ? limits.logitsBudget : 0)
    }

    var bytes: Int { activations.bytes + head.bytes + scratch.bytes }
  }

  /// Sizes of the largest micro-batch there will be, and how much of it is kept for backward.
  package struct MemoryLimits: Sendable, Equatable {
    package var rows: Int
    /// The longest sequence.
    package var sequence: Int
    /// Whether backward will be called.
    package var training: Bool
    /// Rows for which layers keep all their activations; longer micro-batches compute a part of them again.
    package var keptRows: Int
    /// Keep only what enters each layer, whatever the number of rows.
    package var checkpointing: Bool
    /// Bytes of logits kept between forward and backward.
    package var logitsBudget: Int

    /// - Parameter keptRows: all of `rows` when nil.
    package init(
      rows: Int, sequence: Int, training: Bool, keptRows: Int? = nil, checkpointing: Bool = false,
      logitsBudget: Int = 256 << 20
    ) {
      self.rows = rows
      self.sequence = sequence
      self.training = training
      self.keptRows = keptRows ?? rows
      self.checkpointing = checkpointing
      self.logitsBudget = logitsBudget
    }
  }

  package init(
    _ configuration: DecoderConfiguration, pool: ThreadPool, precision: ProductPrecision = .float32
  ) throws(DecoderError) {
    self.configuration = try configuration.validated()
    self.pool = pool
    places = DecoderParameters(configuration)
    arena = AlignedBuffer(count: places.layout.count)
    parameters = arena.values
    weights = DecoderWeights(arena.pointer, count: arena.count, precision: precision)
    angles = RotaryAngles(configuration)
  }

  /// To be called after `parameters` were changed: products in bf16 work on a rounded copy of them.
  package func parametersChanged() { weights.refresh(pool) }

  /// Takes the memory for micro-batches up to `limits`; what was reserved before is given back unless it is enough.
  package func reserve(_ limits: MemoryLimits) {
    if let old = memory?.limits, old.rows >= limits.rows, old.sequence >= limits.sequence,
      old.training || !limits.training, old.keptRows >= min(limits.keptRows, limits.rows),
      old.checkpointing == limits.checkpointing, old.logitsBudget == limits.logitsBudget
    {
      return
    }
    memory = nil
    memory = Memory(configuration, limits, pool: pool, threads: pool.threadCount, weights.precision)
  }

  /// Bytes reserved for micro-batches.
  package var reservedBytes: Int { memory?.bytes ?? 0 }

  /// Bytes that `reserve(limits)` would take with `threads` threads, without taking them.
  package static func memoryBytes(
    _ configuration: DecoderConfiguration, _ limits: MemoryLimits, threads: Int,
    precision: ProductPrecision = .float32
  ) -> Int {
    // The address space is taken and given back; no page of it is touched.
    let pool = ThreadPool(threads: 1)
    defer { pool.stop() }
    return Memory(configuration, limits, pool: pool, threads: threads, precision).bytes
  }

  func layers(_ scratch: AlignedScratch) -> DecoderLayers {
    DecoderLayers(
      configuration: configuration, places: places, pool: pool, weights: weights,
      attention: SegmentAttention(
        configuration.attentionShape, pool: pool, maxKeys: scratch.maxKeys, scratch: scratch.memory.pointer))
  }

  /// Log-probability of every prediction's label, in the batch's order. Training needs `reserve` with `training: true`
  /// to be followed by `backward`.
  package func forward(_ batch: PackedPairs, logps: UnsafeMutableBufferPointer<Float>) {
    guard batch.rowCount > 0 else { return }
    let memory = reserved(for: batch)
    let shared = memory.activations
    let layers = layers(memory.scratch)
    shared.arrange(rows: batch.rowCount)
    let segments = batch.segmentFamilies.flatMap { $0 }
    copyAngles(batch, shared)
    pool.timeline.span("embedding forward") {
      batch.tokens.withUnsafeBufferPointer { tokens in
        Embedding.forward(
          pool, size: configuration.hiddenSize, tokens: tokens, table: arena.pointer + places.embedding,
          shared.layer(0).0.residual)
      }
    }
    for index in 0..<configuration.numHiddenLayers {
      let (layer, next) = shared.layer(index)
      pool.timeline.span("layer forward", index) {
        layers.forward(index, rows: 0..<batch.rowCount, segments: segments, layer, shared, next: next)
      }
    }
    layers.norm(shared.output, weight: places.finalNorm, rows: batch.rowCount, shared.normed)
    memory.head.forward(batch, hidden: headInput(batch, shared), weight: headWeight, logps: logps)
  }

  /// Adds the gradients of all parameters to `gradients` (same layout), given dLoss/dlogp of every prediction of the
  /// batch that `forward` saw last. `onGradientReady` is told how far the arena is finished, once after the head and
  /// once after each layer.
  package func backward(
    _ batch: PackedPairs, weights: UnsafeBufferPointer<Float>, into gradients: UnsafeMutablePointer<Float>,
    onGradientReady: ((_ end: Int) throws -> Void)? = nil
  ) rethrows {
    guard batch.rowCount > 0 else { return }
    let memory = reserved(for: batch)
    let shared = memory.activations
    precondition(shared.keepsLayers, "backward needs memory reserved for training")
    precondition(weights.count >= batch.predictionCount, "there are fewer weights than predictions")
    let rows = batch.rowCount
    let families = batch.segmentFamilies
    let layers = layers(memory.scratch)

    // `normed` still holds the head's input.
    memory.head.backward(
      batch, weights: weights, hidden: headInput(batch, shared), weight: headWeight, dHidden: shared.dNormed,
      dWeight: gradients + places.head)
    shared.dResidual.update(repeating: 0, count: rows * configuration.hiddenSize)
    layers.normBackward(shared.final, weight: places.finalNorm, rows: rows, shared, gradients)
    try onGradientReady?(places.headEnd)

    for index in (0..<configuration.numHiddenLayers).reversed() {
      pool.timeline.span("layer backward", index) {
        layers.backward(
          index, rows: rows, families: families, shared.layers[index], shared, gradients: gradients)
      }
      try onGradientReady?(places.layers[index].end)
    }
    pool.timeline.span("embedding backward") {
      batch.tokens.withUnsafeBufferPointer { tokens in
        Embedding.backward(
          pool, size: configuration.hiddenSize, tokens: tokens, frozen: configuration.padTokenID.map(Int32.init),
          shared.dResidual, dTable: gradients + places.embedding)
      }
    }
  }

  private func headInput(_ batch: PackedPairs, _ shared: Activations) -> MatrixOperand {
    shared.left.matrix(pool, shared.normed, rows: batch.rowCount, columns: configuration.hiddenSize)
  }

  private var headWeight: MatrixOperand { weights.matrix(places.head, columns: configuration.hiddenSize) }

  private func reserved(for batch: PackedPairs) -> Memory {
    guard let memory, memory.limits.rows >= batch.rowCount, memory.limits.sequence >= batch.longestSequence else {
      preconditionFailure("a micro-batch of \(batch.rowCount) rows is larger than the memory reserved for it")
    }
    return memory
  }

  private func copyAngles(_ batch: PackedPairs, _ shared: Activations) {
    let half = configuration.headDim / 2
    for family in batch.segmentFamilies {
      // As in TRL, where the longer of chosen and rejected decides for both.
      let length = family.map { $0.prefixCount + $0.count }.max() ?? 0
      for segment in family {
        angles.copy(
          position: segment.prefixCount, rows: segment.count, length: length + 1,
          cosine: shared.cosine + segment.start * half,
          sine: shared.sine + segment.start * half)
      }
    }
  }
}

extension DecoderConfiguration {
  var attentionShape: SegmentAttention.Shape {
    SegmentAttention.Shape(
      queryHeads: numAttentionHeads, keyHeads: numKeyValueHeads, headDim: headDim, window: slidingWindow,
      scale: 1 / Float(headDim).squareRoot())
  }
}

/// Scratch of the attention kernel.
final class AlignedScratch {
  let memory: AlignedBuffer<Float>
  let maxKeys: Int

  init(_ shape: SegmentAttention.Shape, threads: Int, maxKeys: Int) {
    self.maxKeys = maxKeys
    memory = AlignedBuffer(count: SegmentAttention.scratchCount(shape, threads: threads, maxKeys: maxKeys))
  }

  var bytes: Int { memory.bytes }
}

extension PackedPairs {
  /// Each pair's segments, prefix first; empty ones left out.
  var segmentFamilies: [[SegmentAttention.Segment]] {
    pairs.map { pair in
      let prefix = pair.prefixRows
      let whole = SegmentAttention.Segment(
        prefixStart: prefix.lowerBound, prefixCount: 0, start: prefix.lowerBound, count: prefix.count)
      let branches = [pair.chosenRows, pair.rejectedRows].map {
        SegmentAttention.Segment(
          prefixStart: prefix.lowerBound, prefixCount: prefix.count, start: $0.lowerBound, count: $0.count)
      }
      return ([whole] + branches).filter { $0.count > 0 }
    }
  }

  /// Rows of the longest sequence: prefix and branch.
  package var longestSequence: Int {
    pairs.map { $0.prefixRows.count + max($0.chosenRows.count, $0.rejectedRows.count) }.max() ?? 0
  }
}
