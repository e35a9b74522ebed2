import Kernels
import Tensors
import Testing

@Suite struct MatmulTests {
  /// `A[m, k] * B[k, n]` in fp64 with the operands given as functions.
  private static func product(
    _ m: Int, _ n: Int, _ k: Int, _ a: (Int, Int) -> Float, _ b: (Int, Int) -> Float
  ) -> [Double] {
    (0..<m * n).map { index in
      (0..<k).reduce(0.0) { $0 + Double(a(index / n, $1)) * Double(b($1, index % n)) }
    }
  }

  @Test(
    arguments: [(false, false), (false, true), (true, false), (true, true)], [(1, 1, 1), (7, 17, 33), (33, 16, 5)])
  func multiplyKnowsTransposesDistancesAndFactors(transposes: (a: Bool, b: Bool), size: (m: Int, n: Int, k: Int)) {
    let (m, n, k) = size
    let (lda, ldb, ldc) = ((transposes.a ? m : k) + 3, (transposes.b ? k : n) + 5, n + 2)
    let a = Memory(numbers((transposes.a ? k : m) * lda, stream: 1))
    let b = Memory(numbers((transposes.b ? n : k) * ldb, stream: 2))
    let before = numbers(m * ldc, stream: 3)
    let c = Memory(before)
    Matmul.multiply(
      transposeA: transposes.a, transposeB: transposes.b, m: m, n: n, k: k, alpha: 0.5, a.pointer, lda: lda, b.pointer,
      ldb: ldb, beta: -2, c.pointer, ldc: ldc)
    let product = Self.product(
      m, n, k, { a.pointer[transposes.a ? $1 * lda + $0 : $0 * lda + $1] },
      { b.pointer[transposes.b ? $1 * ldb + $0 : $0 * ldb + $1] })
    var expected = before.doubles
    for row in 0..<m {
      for column in 0..<n {
        expected[row * ldc + column] = 0.5 * product[row * n + column] - 2 * expected[row * ldc + column]
      }
    }
    #expect(largestError(c.values, expected) < 1e-6)
    #expect(c.isIntact)
  }

  @Test func multiplyIgnoresWhatAnOverwrittenResultHeld() {
    let a = Memory(numbers(6, stream: 1))
    let c = Memory(unset: 4)
    Matmul.multiply(transposeB: true, m: 2, n: 2, k: 3, a.pointer, lda: 3, a.pointer, ldb: 3, c.pointer, ldc: 2)
    #expect(
      largestError(c.values, Self.product(2, 2, 3, { a.pointer[$0 * 3 + $1] }, { a.pointer[$1 * 3 + $0] })) < 1e-6)
  }

  private func matrix(_ memory: Memory, _ columns: Int) -> MatrixOperand {
    MatrixOperand(memory.pointer, stride: columns)
  }

  private static let sizes = [
    (0, 7, 5), (1, 1, 1), (1, 33, 130), (7, 16, 17), (17, 7, 65), (33, 17, 64), (50, 40, 200),
  ]

  @Test(arguments: sizes, threadCounts)
  func linearLayersEqualFP64(size: (rows: Int, inputs: Int, outputs: Int), threads: Int) {
    let (rows, inputs, outputs) = size
    let x = Memory(numbers(rows * inputs, stream: 1))
    let weight = Memory(numbers(outputs * inputs, stream: 2))
    let expected = Self.product(
      rows, outputs, inputs, { x.pointer[$0 * inputs + $1] }, { weight.pointer[$1 * inputs + $0] })
    let before = numbers(rows * outputs, stream: 3)
    let (byRows, byColumns, added) = (Memory(unset: rows * outputs), Memory(unset: rows * outputs), Memory(before))
    withPool(threads) { pool in
      Matmul.linear(
        pool, rows: rows, inputs: inputs, outputs: outputs, matrix(x, inputs), weight: matrix(weight, inputs),
        byRows.pointer)
      Matmul.linearByColumns(
        pool, rows: rows, inputs: inputs, outputs: outputs, matrix(x, inputs), weight: matrix(weight, inputs),
        byColumns.pointer)
      Matmul.linear(
        pool, rows: rows, inputs: inputs, outputs: outputs, matrix(x, inputs), weight: matrix(weight, inputs),
        accumulate: true,
        added.pointer)
    }
    #expect(largestError(byRows.values, expected) < 2e-6)
    #expect(largestError(byColumns.values, expected) < 2e-6)
    #expect(largestError(added.values, sum(expected, before.doubles)) < 2e-6)
    #expect(byRows.isIntact && byColumns.isIntact && added.isIntact)
  }

  @Test(arguments: sizes, threadCounts)
  func gradientsOfALinearLayerEqualFP64(size: (rows: Int, inputs: Int, outputs: Int), threads: Int) {
    let (rows, inputs, outputs) = size
    let x = Memory(numbers(rows * inputs, stream: 1))
    let weight = Memory(numbers(outputs * inputs, stream: 2))
    let dY = Memory(numbers(rows * outputs, stream: 3))
    let before = numbers(outputs * inputs, stream: 4)
    let (dX, dWeight) = (Memory(unset: rows * inputs), Memory(before))
    withPool(threads) { pool in
      Matmul.inputGradient(
        pool, rows: rows, inputs: inputs, outputs: outputs, matrix(dY, outputs), weight: matrix(weight, inputs),
        dX.pointer)
      Matmul.weightGradient(
        pool, rows: rows, inputs: inputs, outputs: outputs, matrix(dY, outputs), matrix(x, inputs), dWeight.pointer)
    }
    let expectedDX = Self.product(
      rows, inputs, outputs, { dY.pointer[$0 * outputs + $1] }, { weight.pointer[$0 * inputs + $1] })
    let product = Self.product(
      outputs, inputs, rows, { dY.pointer[$1 * outputs + $0] }, { x.pointer[$0 * inputs + $1] })
    #expect(largestError(dX.values, expectedDX) < 2e-6)
    #expect(largestError(dWeight.values, sum(product, before.doubles)) < 2e-6)
    #expect(dX.isIntact && dWeight.isIntact)
  }

  /// The two gradients above against the definition: differences of sum(dY * X W^T).
  @Test func gradientsOfALinearLayerEqualCentralDifferences() {
    let (rows, inputs, outputs) = (5, 7, 3)
    let x = Memory(numbers(rows * inputs, stream: 1))
    let weight = Memory(numbers(outputs * inputs, stream: 2))
    let dY = Memory(numbers(rows * outputs, stream: 3))
    func loss(_ x: [Double], _ weight: [Double]) -> Double {
      (0..<rows * outputs).reduce(0.0) { total, index in
        let (row, output) = (index / outputs, index % outputs)
        let y = (0..<inputs).reduce(0.0) { $0 + x[row * inputs + $1] * weight[output * inputs + $1] }
        return total + y * Double(dY.pointer[index])
      }
    }
    let (dX, dWeight) = (Memory(unset: rows * inputs), Memory([Float](repeating: 0, count: outputs * inputs)))
    withPool(2) { pool in
      Matmul.inputGradient(
        pool, rows: rows, inputs: inputs, outputs: outputs, matrix(dY, outputs), weight: matrix(weight, inputs),
        dX.pointer)
      Matmul.weightGradient(
        pool, rows: rows, inputs: inputs, outputs: outputs, matrix(dY, outputs), matrix(x, inputs), dWeight.pointer)
    }
    #expect(largestError(dX.values, centralDifferences(x.values.doubles) { loss($0, weight.values.doubles) }) < 2e-6)
    #expect(
      largestError(dWeight.values, centralDifferences(weight.values.doubles) { loss(x.values.doubles, $0) }) < 2e-6)
  }

  @Test func theLibraryNamesItsKernels() { #expect(!Matmul.instructionSet.isEmpty) }

  /// The factors are rounded to bf16, the sums are fp32: against fp64 sums over the rounded factors.
  @Test(.enabled(if: ProductPrecision.hasBFloat16), arguments: sizes, threadCounts)
  func productsInBFloat16SumInFP32(size: (rows: Int, inputs: Int, outputs: Int), threads: Int) {
    let (rows, inputs, outputs) = size
    /// Values, and the same rounded, as bf16 and as numbers.
    func rounded(_ count: Int, stream: UInt64) -> (bits: [BFloat16], values: [Float]) {
      let bits = numbers(count, stream: stream).map { BFloat16($0) }
      return (bits, bits.map(\.float))
    }
    let (x, weight, dY) = (
      rounded(rows * inputs, stream: 1), rounded(outputs * inputs, stream: 2), rounded(rows * outputs, stream: 3)
    )
    let before = numbers(outputs * inputs, stream: 4)
    let y = Memory(unset: rows * outputs)
    let (dX, dWeight) = (Memory(unset: rows * inputs), Memory(before))
    func matrix(_ values: UnsafeBufferPointer<BFloat16>, _ columns: Int) -> MatrixOperand? {
      values.baseAddress.map { MatrixOperand($0, stride: columns) }
    }
    withPool(threads) { pool in
      x.bits.withUnsafeBufferPointer { xBits in
        weight.bits.withUnsafeBufferPointer { weightBits in
          dY.bits.withUnsafeBufferPointer { dYBits in
            guard let x = matrix(xBits, inputs), let weight = matrix(weightBits, inputs),
              let dY = matrix(dYBits, outputs)
            else { return }
            Matmul.linear(pool, rows: rows, inputs: inputs, outputs: outputs, x, weight: weight, y.pointer)
            Matmul.inputGradient(pool, rows: rows, inputs: inputs, outputs: outputs, dY, weight: weight, dX.pointer)
            Matmul.weightGradient(pool, rows: rows, inputs: inputs, outputs: outputs, dY, x, dWeight.pointer)
          }
        }
      }
    }
    let expectedY = Self.product(
      rows, outputs, inputs, { x.values[$0 * inputs + $1] }, { weight.values[$1 * inputs + $0] })
    let expectedDX = Self.product(
      rows, inputs, outputs, { dY.values[$0 * outputs + $1] }, { weight.values[$0 * inputs + $1] })
    let product = Self.product(
      outputs, inputs, rows, { dY.values[$1 * outputs + $0] }, { x.values[$0 * inputs + $1] })
    #expect(largestError(y.values, expectedY) < 2e-6)
    #expect(largestError(dX.values, expectedDX) < 2e-6)
    #expect(largestError(dWeight.values, sum(product, before.doubles)) < 2e-6)
    #expect(y.isIntact && dX.isIntact && dWeight.isIntact)
  }

  /// The processor's rounding against the definition, in any length and in place.
  @Test(.enabled(if: ProductPrecision.hasBFloat16), arguments: [1, 15, 16, 17, 31, 32, 33, 63, 100])
  func roundingIsToNearestEven(count: Int) {
    var values = numbers(count, stream: 5)
    // Halfway between two bf16 numbers, to the even one below and above; infinity; overflow; not a number.
    let special: [UInt32] = [0x3F80_8000, 0x3F81_8000, 0x7F80_0000, 0x7F7F_FFFF, 0x7FC0_0001, 0x8000_0000]
    for (index, bits) in special.enumerated() where index < count { values[index] = Float(bitPattern: bits) }
    let expected = values.map { BFloat16($0).bits }
    var rounded = [BFloat16](repeating: BFloat16(0), count: count + 1)
    withPool(2) { pool in
      rounded.withUnsafeMutableBufferPointer { to in
        guard let to = to.baseAddress else { return }
        values.withUnsafeBufferPointer {
          guard let from = $0.baseAddress else { return }
          BFloat16.round(pool, rows: count, columns: 1, from, to)
        }
      }
    }
    #expect(rounded.map(\.bits) == expected + [0])
    let memory = Memory(values)
    BFloat16.roundInPlace(memory.pointer, count: count)
    let inPlace = UnsafeRawPointer(memory.pointer).assumingMemoryBound(to: UInt16.self)
    #expect((0..<count).map { inPlace[$0] } == expected)
    #expect(memory.isIntact)
  }

  /// The share of a change that shows in bf16, over many parameters: all of it, whether they come from bf16, lie half way
  /// between two of its numbers, or anywhere.
  @Test(arguments: [UInt32(0), 0x8000, 0x4000, 0xFFFF], [Float(0x1p-13), 0x1p-10, 0x1p-8])
  func smallChangesOfParametersShow(rest: UInt32, change: Float) {
    let count = 1 << 16
    // From 1 up to below 2 neighbours are 2^-7 apart.
    let values = numbers(count, stream: 6).map {
      Float(bitPattern: (0x3F80_0000 | $0.bitPattern & 0x003F_0000) | rest)
    }
    func rounded(_ values: [Float]) -> [BFloat16] {
      var result = [BFloat16](repeating: BFloat16(0), count: count)
      withPool(2) { pool in
        result.withUnsafeMutableBufferPointer { to in
          values.withUnsafeBufferPointer {
            guard let from = $0.baseAddress, let to = to.baseAddress else { return }
            BFloat16.roundParameters(pool, from, count: count, to)
          }
        }
      }
      return result
    }
    let (before, after) = (rounded(values), rounded(values.map { $0 + change }))
    let shown = zip(before, after).reduce(0.0) { $0 + Double($1.1.float - $1.0.float) } / Double(count)
    // Of 2^16 thresholds about 2^16 x change x 2^7 are passed: 1024 of the smallest change.
    #expect(abs(shown / Double(change) - 1) < 0.1)
    if rest == 0 { #expect(zip(values, before).allSatisfy { $0 == $1.float }) }
    #expect(zip(values, before).allSatisfy { abs($0 - $1.float) < 0x1p-7 })
  }
}
