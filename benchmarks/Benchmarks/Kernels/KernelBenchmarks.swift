import Benchmark
import Kernels
import Tensors

/// Kernels by themselves, at the shapes of SmolLM2-135M, on one thread: what a change to one of them brings, without a
/// training step around it. `ORPO_DIST_BENCHMARKS=1 swift package benchmark`.
///
/// An iteration is one call on fresh memory, whose filling does not count.
let benchmarks: @Sendable () -> Void = {
  Benchmark.defaultConfiguration = .init(
    metrics: [.wallClock, .throughput], warmupIterations: 2, maxDuration: .seconds(2), maxIterations: 1000)
  matmulBenchmarks()
  attentionBenchmarks()
  rowBenchmarks()
  optimizerBenchmarks()
}

/// A layer's products and the head's: forward, and the gradients of input and weight.
private func matmulBenchmarks() {
  let shapes = [
    ("q k v", 1024, 576, 960), ("gate up", 1024, 576, 3072), ("down", 1024, 1536, 576), ("head", 256, 576, 49152),
  ]
  let precisions: [ProductPrecision] = ProductPrecision.hasBFloat16 ? [.float32, .bfloat16] : [.float32]
  for (name, rows, inputs, outputs) in shapes {
    for precision in precisions {
      let title = "product \(precision == .float32 ? "fp32" : "bf16") \(name) \(rows)x\(inputs)->\(outputs)"
      func add(_ form: String, _ body: @escaping @Sendable (Operands) -> Void) {
        Benchmark("\(title) \(form)") { benchmark in
          let operands = Operands(rows: rows, inputs: inputs, outputs: outputs, precision)
          benchmark.startMeasurement()
          for _ in benchmark.scaledIterations { body(operands) }
          benchmark.stopMeasurement()
        }
      }
      add("forward") { o in
        Matmul.linear(o.pool, rows: rows, inputs: inputs, outputs: outputs, o.x, weight: o.weight, o.result.pointer)
      }
      add("dX") { o in
        Matmul.inputGradient(
          o.pool, rows: rows, inputs: inputs, outputs: outputs, o.dY, weight: o.weight, o.result.pointer)
      }
      add("dW") { o in
        Matmul.weightGradient(o.pool, rows: rows, inputs: inputs, outputs: outputs, o.dY, o.x, o.result.pointer)
      }
    }
  }
}

/// Attention of one pair: a prefix of 128 rows, two branches of 256.
private func attentionBenchmarks() {
  let shape = SegmentAttention.Shape(queryHeads: 9, keyHeads: 3, headDim: 64, window: nil, scale: 0.125)
  let (prefix, branch) = (128, 256)
  let family = [
    SegmentAttention.Segment(prefixStart: 0, prefixCount: 0, start: 0, count: prefix),
    SegmentAttention.Segment(prefixStart: 0, prefixCount: prefix, start: prefix, count: branch),
    SegmentAttention.Segment(prefixStart: 0, prefixCount: prefix, start: prefix + branch, count: branch),
  ]
  let rows = prefix + 2 * branch
  func add(_ name: String, _ body: @escaping @Sendable (SegmentAttention, Memory) -> Void) {
    Benchmark("attention \(name), 128 + 2 x 256 rows") { benchmark in
      let pool = ThreadPool(threads: 1)
      let maxKeys = prefix + branch
      let scratch = Memory(count: SegmentAttention.scratchCount(shape, threads: 1, maxKeys: maxKeys))
      // q k v, output, lse, dOutput, dQKV.
      let memory = Memory(count: rows * (2 * shape.stride + 2 * shape.outputStride + shape.queryHeads))
      let attention = SegmentAttention(shape, pool: pool, maxKeys: maxKeys, scratch: scratch.pointer)
      memory.forward(attention, family, rows: rows)
      benchmark.startMeasurement()
      for _ in benchmark.scaledIterations { body(attention, memory) }
      benchmark.stopMeasurement()
    }
  }
  add("forward") { attention, memory in memory.forward(attention, family, rows: rows) }
  add("backward") { attention, memory in
    let stride = shape.stride
    let output = memory.pointer + rows * stride
    let lse = output + rows * shape.outputStride
    let dOutput = lse + rows * shape.queryHeads
    attention.backward(
      [family], memory.pointer, factors: MatrixOperand(memory.pointer, stride: stride), output: output, lse: lse,
      dOutput: dOutput, dOutput + rows * shape.outputStride)
  }
}

/// Norm, activation and log-partition, forward and backward where there is one.
private func rowBenchmarks() {
  func add(
    _ name: String, count: Int, _ body: @escaping @Sendable (ThreadPool, UnsafeMutablePointer<Float>) -> Void
  ) {
    Benchmark(name) { benchmark in
      let pool = ThreadPool(threads: 1)
      let memory = Memory(count: count)
      benchmark.startMeasurement()
      for _ in benchmark.scaledIterations { body(pool, memory.pointer) }
      benchmark.stopMeasurement()
    }
  }
  let (rows, hidden, inner, vocabulary) = (1024, 576, 1536, 49152)
  add("RMSNorm forward, 1024x576", count: 2 * rows * hidden + hidden) { pool, x in
    RMSNorm.forward(
      pool, rows: rows, size: hidden, epsilon: 1e-5, x, weight: x + 2 * rows * hidden, x + rows * hidden)
  }
  add("RMSNorm backward, 1024x576", count: 3 * rows * hidden + (2 + RMSNorm.sums) * hidden) { pool, x in
    let weight = x + 3 * rows * hidden
    RMSNorm.backward(
      pool, rows: rows, size: hidden, epsilon: 1e-5, x, weight: weight, x + rows * hidden, x + 2 * rows * hidden,
      dWeight: weight + hidden, partials: weight + 2 * hidden)
  }
  add("SwiGLU forward, 1024x1536", count: 3 * rows * inner) { pool, x in
    SwiGLU.forward(pool, rows: rows, size: inner, x, x + 2 * rows * inner)
  }
  add("SwiGLU backward, 1024x1536", count: 4 * rows * inner) { pool, x in
    SwiGLU.backward(pool, rows: rows, size: inner, x + 2 * rows * inner, x, x + 3 * rows * inner)
  }
  add("log-partition, 256x49152", count: 256 * vocabulary + 256) { pool, x in
    TokenLogProbability.logPartition(pool, rows: 256, vocabulary: vocabulary, x, x + 256 * vocabulary)
  }
}

private func optimizerBenchmarks() {
  let count = 1 << 24
  Benchmark("AdamW, 16 M parameters") { benchmark in
    let memory = Memory(count: 4 * count)
    let start = memory.pointer
    benchmark.startMeasurement()
    for _ in benchmark.scaledIterations {
      AdamW.update(
        parameters: start, gradients: start + count, firstMoments: start + 2 * count,
        secondMoments: start + 3 * count, count: count, step: 10, learningRate: 1e-6, .init())
    }
    benchmark.stopMeasurement()
  }
}

/// Memory filled with small numbers of both signs.
private final class Memory: @unchecked Sendable {
  private let values: AlignedBuffer<Float>

  init(count: Int) {
    values = AlignedBuffer(count: count)
    let block = min(101 * 64, count)
    for index in 0..<block { values.pointer[index] = Float((index &* 37) % 101 - 50) * 4e-4 }
    for start in stride(from: block, to: count, by: max(block, 1)) {
      (values.pointer + start).update(from: values.pointer, count: min(block, count - start))
    }
  }

  var pointer: UnsafeMutablePointer<Float> { values.pointer }

  /// Attention over q k v at the start into the output and log-sum-exp behind them.
  func forward(_ attention: SegmentAttention, _ segments: [SegmentAttention.Segment], rows: Int) {
    let stride = attention.shape.stride
    let output = pointer + rows * stride
    attention.forward(
      segments, pointer, factors: MatrixOperand(pointer, stride: stride), output,
      lse: output + rows * attention.shape.outputStride)
  }
}

/// The factors and the result of a linear layer's products.
private final class Operands: @unchecked Sendable {
  let pool = ThreadPool(threads: 1)
  let x, weight, dY: MatrixOperand
  let result: Memory
  private let values: [Memory]
  private let rounded: [AlignedWords]

  init(rows: Int, inputs: Int, outputs: Int, _ precision: ProductPrecision) {
    let shapes = [(rows, inputs), (outputs, inputs), (rows, outputs)]
    let values = shapes.map { Memory(count: $0.0 * $0.1) }
    self.values = values
    result = Memory(count: max(rows * max(inputs, outputs), inputs * outputs))
    switch precision {
    case .float32:
      rounded = []
      let operands = zip(values, shapes).map { MatrixOperand($0.pointer, stride: $1.1) }
      (x, weight, dY) = (operands[0], operands[1], operands[2])
    case .bfloat16:
      let rounded = shapes.map { AlignedWords(count: $0.0 * $0.1) }
      for (index, words) in rounded.enumerated() {
        BFloat16.round(
          pool, rows: shapes[index].0, columns: shapes[index].1, values[index].pointer, words.values.pointer)
      }
      self.rounded = rounded
      let operands = zip(rounded, shapes).map { MatrixOperand($0.values.pointer, stride: $1.1) }
      (x, weight, dY) = (operands[0], operands[1], operands[2])
    }
  }
}

private final class AlignedWords: @unchecked Sendable {
  let values: AlignedBuffer<BFloat16>
  init(count: Int) { values = AlignedBuffer(count: count) }
}
