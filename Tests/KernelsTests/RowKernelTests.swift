import Foundation
import Kernels
import Testing

/// Kernels that work row by row: forward against fp64, backward against central differences of the fp64 forward.
@Suite struct RowKernelTests {
  private static let shapes = [(0, 5), (1, 1), (3, 7), (2, 16), (7, 17), (17, 33)]

  // MARK: RMSNorm

  private static func norm(_ x: [Double], _ weight: [Double], epsilon: Double) -> [Double] {
    let size = weight.count
    return x.indices.map { index in
      let row = index / size * size
      let square = x[row..<(row + size)].reduce(0) { $0 + $1 * $1 } / Double(size)
      return x[index] / (square + epsilon).squareRoot() * weight[index % size]
    }
  }

  @Test(arguments: shapes, threadCounts)
  func rmsNormEqualsFP64(shape: (rows: Int, size: Int), threads: Int) {
    let (rows, size) = shape
    let (x, weight) = (Memory(numbers(rows * size, stream: 1)), Memory(numbers(size, stream: 2)))
    let (y, inPlace) = (Memory(unset: rows * size), Memory(x.values))
    withPool(threads) { pool in
      RMSNorm.forward(pool, rows: rows, size: size, epsilon: 0.01, x.pointer, weight: weight.pointer, y.pointer)
      RMSNorm.forward(
        pool, rows: rows, size: size, epsilon: 0.01, inPlace.pointer, weight: weight.pointer, inPlace.pointer)
    }
    let expected = Self.norm(x.values.doubles, weight.values.doubles, epsilon: Double(Float(0.01)))
    #expect(largestError(y.values, expected) < 1e-6)
    #expect(inPlace.values.bits == y.values.bits)
    #expect(y.isIntact && inPlace.isIntact)
  }

  @Test(arguments: shapes, threadCounts)
  func rmsNormGradientsEqualCentralDifferences(shape: (rows: Int, size: Int), threads: Int) {
    let (rows, size) = shape
    let (x, weight) = (Memory(numbers(rows * size, stream: 1)), Memory(numbers(size, stream: 2)))
    let dY = Memory(numbers(rows * size, stream: 3))
    let (startX, startWeight) = (numbers(rows * size, stream: 4), numbers(size, stream: 5))
    let (dX, dWeight) = (Memory(startX), Memory(startWeight))
    let partials = Memory(unset: RMSNorm.sums * size)
    withPool(threads) { pool in
      RMSNorm.backward(
        pool, rows: rows, size: size, epsilon: 0.01, x.pointer, weight: weight.pointer, dY.pointer, dX.pointer,
        dWeight: dWeight.pointer, partials: partials.pointer)
    }
    func loss(_ x: [Double], _ weight: [Double]) -> Double {
      dot(Self.norm(x, weight, epsilon: Double(Float(0.01))), dY.values.doubles)
    }
    let expectedX = centralDifferences(x.values.doubles) { loss($0, weight.values.doubles) }
    let expectedWeight = centralDifferences(weight.values.doubles) { loss(x.values.doubles, $0) }
    #expect(largestError(dX.values, sum(expectedX, startX.doubles)) < 3e-6)
    #expect(largestError(dWeight.values, sum(expectedWeight, startWeight.doubles)) < 3e-6)
    #expect(dX.isIntact && dWeight.isIntact && partials.isIntact)
  }

  @Test func rmsNormOfZerosIsZero() {
    let (x, weight, y) = (Memory([Float](repeating: 0, count: 17)), Memory(numbers(17, stream: 1)), Memory(unset: 17))
    withPool(1) {
      RMSNorm.forward($0, rows: 1, size: 17, epsilon: 1e-6, x.pointer, weight: weight.pointer, y.pointer)
    }
    #expect(y.values.allSatisfy { $0 == 0 })
  }

  // MARK: SwiGLU

  private static func gated(_ gateUp: [Double], size: Int) -> [Double] {
    (0..<gateUp.count / 2).map { index in
      let place = index / size * 2 * size + index % size
      return gateUp[place] / (1 + exp(-gateUp[place])) * gateUp[place + size]
    }
  }

  @Test(arguments: shapes, threadCounts)
  func swiGLUEqualsFP64AndCentralDifferences(shape: (rows: Int, size: Int), threads: Int) {
    let (rows, size) = shape
    let start = numbers(rows * 2 * size, stream: 1, times: 3)
    let (gateUp, a, dA) = (Memory(start), Memory(unset: rows * size), Memory(numbers(rows * size, stream: 2)))
    let again = Memory(unset: rows * size)
    withPool(threads) { pool in
      SwiGLU.forward(pool, rows: rows, size: size, gateUp.pointer, a.pointer)
      #expect(gateUp.values == start)
      SwiGLU.backward(pool, rows: rows, size: size, dA.pointer, gateUp.pointer, again.pointer)
    }
    let gradient = centralDifferences(start.doubles) { dot(Self.gated($0, size: size), dA.values.doubles) }
    #expect(largestError(a.values, Self.gated(start.doubles, size: size)) < 1e-6)
    #expect(largestError(gateUp.values, gradient) < 2e-6)
    #expect(again.values.bits == a.values.bits)
    #expect(a.isIntact && gateUp.isIntact && again.isIntact)
  }

  @Test func swiGLUSaturates() {
    let gates: [Float] = [-1000, -200, -89, -88, 0, 88, 89, 200, 1000]
    let (gateUp, a) = (Memory(gates + gates.map { _ in 2 }), Memory(unset: 9))
    let dA = Memory(gates.map { _ in 1 })
    withPool(1) { pool in
      SwiGLU.forward(pool, rows: 1, size: 9, gateUp.pointer, a.pointer)
      SwiGLU.backward(pool, rows: 1, size: 9, dA.pointer, gateUp.pointer, a.pointer)
    }
    for (index, gate) in gates.enumerated() {
      #expect(abs(a.values[index] - 2 * max(gate, 0)) < 1e-30)
      #expect(abs(gateUp.values[index] - (gate > 0 ? 2 : gate < 0 ? 0 : 1)) < 1e-30)
      #expect(abs(gateUp.values[9 + index] - max(gate, 0)) < 1e-30)
    }
  }

  // MARK: Bias

  @Test(arguments: shapes, threadCounts)
  func biasIsAddedToEveryRowAndItsGradientSumsThem(shape: (rows: Int, size: Int), threads: Int) {
    let (rows, size) = shape
    let (bias, before) = (Memory(numbers(size, stream: 1)), numbers(rows * size, stream: 2))
    let (y, start) = (Memory(before), numbers(size, stream: 3))
    let dBias = Memory(start)
    withPool(threads) { pool in
      Bias.forward(pool, rows: rows, size: size, bias: bias.pointer, y.pointer)
      Bias.backward(pool, rows: rows, size: size, y.pointer, dBias: dBias.pointer)
    }
    let expected = before.indices.map { before[$0] + bias.values[$0 % size] }
    #expect(y.values == expected)
    // Row after row, whatever the number of threads: the very same sums.
    var sums = start
    for (index, value) in expected.enumerated() { sums[index % size] += value }
    #expect(dBias.values == sums)
    #expect(y.isIntact && dBias.isIntact)
  }

  // MARK: Embedding

  @Test(arguments: oddSizes, threadCounts)
  func embeddingGathersAndItsGradientScattersInRowOrder(size: Int, threads: Int) {
    let vocabulary = 5
    let tokens: [Int32] = [4, 0, 2, 2, 4, 1, 2, 0, 0]
    let (table, dX) = (Memory(numbers(vocabulary * size, stream: 1)), Memory(numbers(tokens.count * size, stream: 2)))
    let start = numbers(vocabulary * size, stream: 3)
    for frozen in [nil, 2, 3] as [Int32?] {
      let (x, dTable) = (Memory(unset: tokens.count * size), Memory(start))
      withPool(threads) { pool in
        tokens.withUnsafeBufferPointer { tokens in
          Embedding.forward(pool, size: size, tokens: tokens, table: table.pointer, x.pointer)
          Embedding.backward(pool, size: size, tokens: tokens, frozen: frozen, dX.pointer, dTable: dTable.pointer)
        }
      }
      var expected = start
      for (row, token) in tokens.enumerated() {
        for i in 0..<size {
          #expect(x.values[row * size + i] == table.values[Int(token) * size + i])
          if token != frozen { expected[Int(token) * size + i] += dX.values[row * size + i] }
        }
      }
      #expect(dTable.values == expected)
      #expect(x.isIntact && dTable.isIntact)
    }
  }

  @Test func embeddingOfNothingDoesNothing() {
    let (x, dTable) = (Memory(unset: 0), Memory([Float](repeating: 1, count: 8)))
    withPool(2) { pool in
      [Int32]().withUnsafeBufferPointer { tokens in
        Embedding.forward(pool, size: 4, tokens: tokens, table: dTable.pointer, x.pointer)
        Embedding.backward(pool, size: 4, tokens: tokens, frozen: nil, x.pointer, dTable: dTable.pointer)
      }
    }
    #expect(x.isIntact && dTable.values == [Float](repeating: 1, count: 8))
  }

  // MARK: RotaryEmbedding

  @Test(arguments: [(2, 2), (6, 6), (6, 4), (34, 34), (66, 64), (80, 0)], threadCounts)
  func rotationEqualsFP64(dims: (head: Int, rotary: Int), threads: Int) {
    let (rows, heads) = (5, 3)
    let half = dims.rotary / 2
    let stride = heads * dims.head + 9
    let angles = numbers(rows * half, stream: 1, times: 3).map(Double.init)
    let (cosine, sine) = (Memory(angles.map { Float(cos($0)) }), Memory(angles.map { Float(sin($0)) }))
    let start = numbers(rows * stride, stream: 2)
    let x = Memory(start)
    func rotate(inverse: Bool) {
      withPool(threads) { pool in
        RotaryEmbedding.rotate(
          pool, rows: rows, heads: heads, headDim: dims.head, rotaryDim: dims.rotary, stride: stride,
          cosine: cosine.pointer, sine: sine.pointer, inverse: inverse, x.pointer)
      }
    }
    var expected = start.doubles
    for row in 0..<rows {
      for head in 0..<heads {
        for i in 0..<half {
          let place = row * stride + head * dims.head + i
          let (a, b, angle) = (Double(start[place]), Double(start[place + half]), angles[row * half + i])
          expected[place] = a * cos(angle) - b * sin(angle)
          expected[place + half] = b * cos(angle) + a * sin(angle)
        }
      }
    }
    rotate(inverse: false)
    #expect(largestError(x.values, expected) < 1e-6)
    // Turning back undoes it; a rotation's inverse is its transpose, hence its gradient.
    rotate(inverse: true)
    #expect(largestError(x.values, start.doubles) < 1e-6)
    #expect(x.isIntact)
  }

  @Test func theInverseRotationIsTheGradient() {
    let (rows, dim) = (3, 8)
    let angles = numbers(rows * dim / 2, stream: 1).map(Double.init)
    let (cosine, sine) = (Memory(angles.map { Float(cos($0)) }), Memory(angles.map { Float(sin($0)) }))
    let (x, dY) = (numbers(rows * dim, stream: 2), Memory(numbers(rows * dim, stream: 3)))
    let weights = dY.values.doubles
    let expected = centralDifferences(x.doubles) { x in
      (0..<rows * dim / 2).reduce(0.0) { total, index in
        let low = index / (dim / 2) * dim + index % (dim / 2)
        let (a, b, high) = (x[low], x[low + dim / 2], low + dim / 2)
        return total + weights[low] * (a * cos(angles[index]) - b * sin(angles[index]))
          + weights[high] * (b * cos(angles[index]) + a * sin(angles[index]))
      }
    }
    withPool(2) { pool in
      RotaryEmbedding.rotate(
        pool, rows: rows, heads: 1, headDim: dim, rotaryDim: dim, stride: dim, cosine: cosine.pointer,
        sine: sine.pointer, inverse: true, dY.pointer)
    }
    #expect(largestError(dY.values, expected) < 1e-6)
  }
}
