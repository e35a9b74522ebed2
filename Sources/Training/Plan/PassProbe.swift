import Decoder
import Foundation
import Kernels
import Packing
import Preferences
import Synchronization
import Tensors
import Timeline

/// A few layers of a model's shape, without its weights, that do the passes of training: what they take here tells what
/// the whole model's will.
///
/// Not one layer alone: its weights, gradients and activations would stay in the caches, where those of a model do not.
final class PassProbe: @unchecked Sendable {
  let configuration: DecoderConfiguration
  /// One for each thread, or none: then threads run where they like.
  let cores: [Int]
  private let pool: ThreadPool
  private let decoder: Decoder
  private let gradients: AlignedBuffer<Float>
  private let batches: [PackedPairs]
  private var logps: [Float]

  /// Layers of a model that are computed, and its vocabulary, which may be larger than is worth the memory: the head's
  /// work is proportional to it.
  static func shape(of model: DecoderConfiguration) -> DecoderConfiguration {
    var shape = model
    let layerBytes = 8 * model.layerProducts.reduce(0) { $0 + $1.parameters }
    shape.numHiddenLayers = min(max(1, (192 << 20) / max(layerBytes, 1)), 4, model.numHiddenLayers)
    shape.vocabSize = min(model.vocabSize, 65536)
    shape.padTokenID = nil
    return shape
  }

  /// Memory of a probe, with what measuring the optimizer takes.
  static func bytes(
    of shape: DecoderConfiguration, _ limits: Decoder.MemoryLimits, precision: ProductPrecision, threads: Int
  ) -> Int {
    (precision == .bfloat16 ? 10 : 8) * shape.parameterCount
      + Decoder.memoryBytes(shape, limits, threads: threads, precision: precision) + 16 * optimizerValues
  }

  private static let optimizerValues = 16 << 20

  /// - Parameter batches: passes to measure.
  init(
    _ shape: DecoderConfiguration, batches: [PackedPairs], limits: Decoder.MemoryLimits, precision: ProductPrecision,
    threads: Int, cores: [Int]
  ) throws {
    configuration = shape
    self.cores = cores
    pool = ThreadPool(threads: threads, cores: cores)
    decoder = try Decoder(shape, pool: pool, precision: precision)
    gradients = AlignedBuffer(count: decoder.layout.count)
    self.batches = batches
    logps = [Float](repeating: 0, count: batches.map(\.predictionCount).max() ?? 0)
    SyntheticValues.fill(decoder.parameters, pool: pool)
    for entry in decoder.layout.entries where !entry.decays {
      UnsafeMutableBufferPointer(rebasing: decoder.parameters[entry.range]).update(repeating: 1)
    }
    decoder.parametersChanged()
    decoder.reserve(limits)
  }

  func stop() { pool.stop() }

  /// One forward and backward pass of batch `index`.
  func pass(_ index: Int) {
    let batch = batches[index]
    let weights = [Float](repeating: -1 / Float(batch.predictionCount), count: batch.predictionCount)
    logps.withUnsafeMutableBufferPointer { decoder.forward(batch, logps: $0) }
    weights.withUnsafeBufferPointer { decoder.backward(batch, weights: $0, into: gradients.pointer) }
  }

  /// Seconds of the passes of one batch, mean.
  struct Sample {
    var rows: Int
    var attendedRows: Double
    var passes = 0
    /// Per pass and layer: everything but attention, attention, and how much of both is backward.
    var layer = 0.0
    var attention = 0.0
    var backward = 0.0
    /// Per pass, outside the layers.
    var outside = 0.0
  }

  /// Passes in turns until the time is up, at least one of each batch.
  func measure(until deadline: Int64) -> [Sample] {
    let layers = configuration.numHiddenLayers
    let timeline = Timeline(capacity: 80 * layers + 8192)
    var samples = batches.map { batch in
      let size = PassSize(batch)
      return Sample(rows: batch.rowCount, attendedRows: size.attendedRows)
    }
    repeat {
      for index in batches.indices {
        timeline.removeAll()
        pool.timeline = timeline
        let seconds = Stopwatch.seconds { pass(index) }
        pool.timeline = nil
        samples[index].add(RankSpans(timeline), seconds: seconds, layers: Double(layers))
      }
    } while Timeline.now() < deadline
    return samples.map(\.mean)
  }

  /// Seconds to update one parameter, with all threads.
  func measureOptimizer() -> Double {
    let count = Self.optimizerValues
    let state = AlignedBuffer<Float>(count: 4 * count)
    SyntheticValues.fill(state.values, pool: pool)
    let start = state.pointer
    let piece = 1 << 18
    return Stopwatch.median {
      pool.tasks(count / piece) { index, _ in
        let first = start + index * piece
        AdamW.update(
          parameters: first, gradients: first + count, firstMoments: first + 2 * count,
          secondMoments: first + 3 * count, count: piece, step: 10, learningRate: 1e-6, .init())
      }
    } / Double(count)
  }
}

extension PassProbe.Sample {
  fileprivate mutating func add(_ spans: RankSpans, seconds: Double, layers: Double) {
    func total(_ names: String...) -> Double {
      spans.spans.reduce(0) { $0 + (names.contains($1.name) ? Double($1.duration) * 1e-9 : 0) }
    }
    let inLayers = total("layer forward", "layer backward")
    let attention = total("attention forward", "attention backward")
    passes += 1
    layer += (inLayers - attention) / layers
    self.attention += attention / layers
    backward += total("layer backward") / layers
    outside += seconds - inLayers
  }

  fileprivate var mean: Self {
    var mean = self
    let count = Double(max(passes, 1))
    (mean.layer, mean.attention, mean.backward, mean.outside) = (
      layer / count, attention / count, backward / count, outside / count
    )
    return mean
  }
}

extension PassSize {
  /// The size of what is laid out already.
  init(_ batch: PackedPairs) {
    self.init(rows: batch.rowCount)
    for pair in batch.pairs {
      let prefix = Double(pair.prefixRows.count)
      attendedRows += prefix * (prefix + 1) / 2
      for branch in [pair.chosenRows, pair.rejectedRows] {
        let count = Double(branch.count)
        attendedRows += count * prefix + count * (count + 1) / 2
      }
    }
  }
}
