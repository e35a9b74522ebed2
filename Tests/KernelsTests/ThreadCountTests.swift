import Kernels
import Tensors
import Testing

/// Results have the same bits whatever the number of threads: training with `reproducible: true` rests on it. Sizes are
/// those of real layers, where the library of products has most ways to choose from.
@Suite struct ThreadCountTests {
  private static let sizes = [
    (rows: 977, inputs: 576, outputs: 960), (333, 1536, 576), (61, 576, 4096), (2048, 64, 192), (13, 96, 4096),
    (100, 64, 40),
  ]

  /// The bits of what `body` writes into `count` values, for several numbers of threads.
  private func expectSameBits(_ what: String, _ count: Int, _ body: (ThreadPool, UnsafeMutablePointer<Float>) -> Void) {
    func bits(_ threads: Int) -> [UInt32] {
      let result = Memory(numbers(count, stream: 9))
      withPool(threads) { body($0, result.pointer) }
      return result.values.bits
    }
    let alone = bits(1)
    for threads in [2, 3, 4, 7, 16] {
      // A comparison inside `#expect` would list every value.
      let differing = zip(bits(threads), alone).count { $0 != $1 }
      #expect(differing == 0, "\(what), \(threads) threads")
    }
  }

  /// What an operand views.
  private final class Storage {
    let values: Memory
    let rounded: AlignedBuffer<BFloat16>

    init(_ values: Memory, _ rounded: consuming AlignedBuffer<BFloat16>) {
      self.values = values
      self.rounded = rounded
    }
  }

  private func operand(_ count: Int, columns: Int, stream: UInt64, _ precision: ProductPrecision) -> (
    MatrixOperand, Storage
  ) {
    let values = Memory(numbers(count, stream: stream))
    guard precision == .bfloat16 else {
      return (MatrixOperand(values.pointer, stride: columns), Storage(values, AlignedBuffer(count: 0)))
    }
    let rounded = AlignedBuffer<BFloat16>(count: count)
    withPool(1) { BFloat16.round($0, rows: count / columns, columns: columns, values.pointer, rounded.pointer) }
    return (MatrixOperand(rounded.pointer, stride: columns), Storage(values, rounded))
  }

  private static let precisions: [ProductPrecision] = ProductPrecision.hasBFloat16 ? [.float32, .bfloat16] : [.float32]

  @Test(arguments: sizes, precisions)
  func productsOfLayers(size: (rows: Int, inputs: Int, outputs: Int), precision: ProductPrecision) {
    let (rows, inputs, outputs) = size
    let (x, xMemory) = operand(rows * inputs, columns: inputs, stream: 1, precision)
    let (dY, dYMemory) = operand(rows * outputs, columns: outputs, stream: 2, precision)
    let (weight, weightMemory) = operand(outputs * inputs, columns: inputs, stream: 3, precision)
    for accumulate in [false, true] {
      expectSameBits("linear", rows * outputs) {
        Matmul.linear(
          $0, rows: rows, inputs: inputs, outputs: outputs, x, weight: weight, accumulate: accumulate, $1)
      }
    }
    expectSameBits("linear by columns", rows * outputs) {
      Matmul.linearByColumns($0, rows: rows, inputs: inputs, outputs: outputs, x, weight: weight, $1)
    }
    expectSameBits("input gradient", rows * inputs) {
      Matmul.inputGradient($0, rows: rows, inputs: inputs, outputs: outputs, dY, weight: weight, $1)
    }
    expectSameBits("weight gradient", outputs * inputs) {
      Matmul.weightGradient($0, rows: rows, inputs: inputs, outputs: outputs, dY, x, $1)
    }
    withExtendedLifetime((xMemory, dYMemory, weightMemory)) {}
  }

  @Test(arguments: [1, 31, 100, 977]) func gradientsOfNorms(rows: Int) {
    let size = 576
    let (x, weight) = (Memory(numbers(rows * size, stream: 1)), Memory(numbers(size, stream: 2)))
    let dY = Memory(numbers(rows * size, stream: 3))
    expectSameBits("norm", rows * size + size) { pool, result in
      let partials = Memory(unset: RMSNorm.sums * size)
      RMSNorm.backward(
        pool, rows: rows, size: size, epsilon: 1e-5, x.pointer, weight: weight.pointer, dY.pointer, result,
        dWeight: result + rows * size, partials: partials.pointer)
    }
  }
}
