import Kernels
import Tensors

/// Text generation: feeds tokens to the decoder and keeps their keys and values, so that each new token costs one row.
package final class DecodingSession {
  /// Tokens fed so far.
  package private(set) var count = 0
  package let capacity: Int

  private let decoder: Decoder
  private let shared: Activations
  /// `[numHiddenLayers, capacity, qkvSize]`: the rows the attention kernel reads, queries included.
  private let cache: AlignedBuffer<Float>
  private let logits: AlignedBuffer<Float>
  private let scratch: AlignedScratch
  private let layers: DecoderLayers

  /// - Parameter capacity: the most tokens the session can hold, prompt and reply together.
  package init(_ decoder: Decoder, capacity: Int) {
    self.decoder = decoder
    self.capacity = capacity
    let c = decoder.configuration
    shared = Activations(
      c, Decoder.MemoryLimits(rows: capacity, sequence: capacity, training: false),
      precision: decoder.weights.precision)
    cache = AlignedBuffer(count: c.numHiddenLayers * capacity * c.qkvSize)
    logits = AlignedBuffer(count: c.vocabSize)
    scratch = AlignedScratch(c.attentionShape, threads: decoder.pool.threadCount, maxKeys: capacity)
    layers = decoder.layers(scratch)
  }

  /// Feeds `tokens` (at least one) and returns the logits of what follows, `[vocabSize]`, valid until the next call.
  /// - Precondition: `count + tokens.count <= capacity`.
  package func feed(_ tokens: [Int32]) -> UnsafeMutableBufferPointer<Float> {
    precondition(!tokens.isEmpty && count + tokens.count <= capacity, "the session holds \(capacity) tokens")
    let c = decoder.configuration
    let rows = count..<(count + tokens.count)
    let half = c.headDim / 2
    decoder.angles.copy(
      position: count, rows: tokens.count, length: rows.upperBound, cosine: shared.cosine + count * half,
      sine: shared.sine + count * half)
    let segment = SegmentAttention.Segment(prefixStart: 0, prefixCount: count, start: count, count: tokens.count)
    let input = shared.layer(0).0.residual + count * c.hiddenSize
    tokens.withUnsafeBufferPointer {
      Embedding.forward(
        decoder.pool, size: c.hiddenSize, tokens: $0, table: decoder.weights.values + decoder.places.embedding, input)
    }
    for index in 0..<c.numHiddenLayers {
      var (layer, next) = shared.layer(index)
      layer.qkv = cache.pointer + index * capacity * c.qkvSize
      layers.forward(index, rows: rows, segments: [segment], layer, shared, next: next)
    }
    count = rows.upperBound
    let last = shared.output + (count - 1) * c.hiddenSize
    layers.norm(last, weight: decoder.places.finalNorm, rows: 1, shared.normed)
    Matmul.linearByColumns(
      decoder.pool, rows: 1, inputs: c.hiddenSize, outputs: c.vocabSize,
      shared.left.matrix(decoder.pool, shared.normed, rows: 1, columns: c.hiddenSize),
      weight: decoder.weights.matrix(decoder.places.head, columns: c.hiddenSize), logits.pointer)
    return logits.values
  }
}

/// Picks the next token from logits: greedily at temperature 0, else by nucleus sampling with a generator of its own.
package struct TokenSampler {
  package var temperature: Float
  /// Share of probability kept, the likeliest tokens first; 1 keeps all.
  package var topP: Float
  private var random: CounterRandom

  package init(temperature: Float, topP: Float, seed: UInt64) {
    self.temperature = temperature
    self.topP = topP
    random = CounterRandom(seed: seed, stream: 0x7361_6D70)
  }

  package mutating func next(_ logits: UnsafeMutableBufferPointer<Float>) -> Int32 {
    guard let start = logits.baseAddress, !logits.isEmpty else { return 0 }
    let largest = Vectors.largest(start, count: logits.count)
    guard temperature > 0 else { return Int32(logits.firstIndex(of: largest) ?? 0) }
    // Differences first: a quotient by itself may exceed fp32 at low temperatures.
    for index in logits.indices { logits[index] = (logits[index] - largest) / temperature }
    let sum = Vectors.exponentiate(start, count: logits.count, shift: 0)
    var candidates = Array(logits.indices)
    var mass = sum
    if topP < 1 {
      candidates.sort { logits[$0] > logits[$1] }
      var kept = 0
      mass = 0
      while kept < candidates.count, mass < topP * sum {
        mass += logits[candidates[kept]]
        kept += 1
      }
      candidates.removeSubrange(max(kept, 1)...)
      if kept == 0 { mass = logits[candidates[0]] }
    }
    var remaining = random.uniform() * mass
    for index in candidates {
      remaining -= logits[index]
      if remaining < 0 { return Int32(index) }
    }
    return Int32(candidates.last ?? 0)
  }
}
