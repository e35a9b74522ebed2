import Foundation
import Kernels
import Tensors
import Testing

/// Attention over shared prefixes against dense attention in fp64 over each whole sequence by itself.
@Suite struct SegmentAttentionTests {
  /// Rows of one pair: shared prefix and two branches.
  typealias Lengths = (prefix: Int, chosen: Int, rejected: Int)

  private static let heads = [(2, 2), (2, 1), (6, 2), (4, 1), (8, 1), (16, 1)]
  private static let small: [Lengths] = [(5, 3, 4), (0, 7, 9), (1, 1, 1), (6, 0, 5), (4, 2, 0), (9, 0, 0), (17, 1, 12)]
  /// Longer than one tile and two, and ends on their borders.
  private static let large: [Lengths] = [(70, 65, 130), (128, 64, 1), (31, 33, 96), (0, 129, 65)]

  @Test(arguments: heads, [nil, 1, 2, 5, 8, 100] as [Int?])
  func equalsUnsharedDenseAttention(heads: (query: Int, key: Int), window: Int?) {
    for (index, lengths) in Self.small.enumerated() {
      compare([lengths, Self.small[0]], heads, headDim: [6, 8, 18][index % 3], window: window, threads: 1 + index % 3)
    }
  }

  @Test(arguments: heads, [nil, 1, 50, 64, 65, 131] as [Int?])
  func equalsUnsharedDenseAttentionAcrossTiles(heads: (query: Int, key: Int), window: Int?) {
    for (index, lengths) in Self.large.enumerated() {
      compare([(3, 2, 2), lengths], heads, headDim: 4, window: window, threads: 1 + index % 3)
    }
  }

  /// Keys and queries that grow make scores of several hundred: the softmax must not overflow.
  @Test func largeScoresDoNotOverflow() {
    compare([(9, 20, 18)], (2, 1), headDim: 8, window: nil, threads: 2, magnitude: 20, tolerance: 2e-4)
  }

  /// Factors of products rounded to bf16, everything between them in fp32.
  @Test(.enabled(if: ProductPrecision.hasBFloat16), arguments: heads, [nil, 50] as [Int?])
  func productsInBFloat16AreClose(heads: (query: Int, key: Int), window: Int?) {
    compare(
      [(9, 6, 7), Self.large[0]], heads, headDim: 8, window: window, threads: 2, precision: .bfloat16, tolerance: 0.02)
  }

  @Test func everyThreadCountGivesTheSameBits() {
    let problem = Problem([(20, 70, 33), (0, 5, 6)], heads: (6, 2), headDim: 8, window: 30)
    for precision in [ProductPrecision.float32, .bfloat16] {
      guard precision == .float32 || ProductPrecision.hasBFloat16 else { continue }
      let one = problem.run(threads: 1, precision: precision)
      for threads in [2, 3, 5] {
        let many = problem.run(threads: threads, precision: precision)
        #expect(many.output.bits == one.output.bits)
        #expect(many.lse.bits == one.lse.bits)
        #expect(many.dQKV.bits == one.dQKV.bits)
      }
    }
  }

  /// A sequence fed in pieces, each continuing what lies before it, as generation does.
  @Test(arguments: [nil, 3, 40] as [Int?])
  func piecesOfASequenceGiveTheWhole(window: Int?) {
    let problem = Problem([(90, 0, 0)], heads: (4, 2), headDim: 8, window: window)
    let whole = problem.run(threads: 1)
    let pieces = [0, 1, 2, 10, 75, 89, 90]
    let segments = zip(pieces, pieces.dropFirst()).map {
      SegmentAttention.Segment(prefixStart: 0, prefixCount: $0, start: $0, count: $1 - $0)
    }
    let (qkv, output, lse) = (Memory(problem.qkv), Memory(unset: whole.output.count), Memory(unset: whole.lse.count))
    problem.with(threads: 2) { attention in
      for segment in segments { attention.forward([segment], qkv.pointer, output.pointer, lse: lse.pointer) }
    }
    #expect(largestError(output.values, whole.output.doubles) < 1e-6)
    #expect(largestError(lse.values, whole.lse.doubles) < 1e-6)
  }

  @Test func nothingToDo() {
    let problem = Problem([(0, 0, 0)], heads: (2, 1), headDim: 4, window: nil)
    #expect(problem.run(threads: 2).dQKV.isEmpty)
  }

  /// The reference's own backward pass against central differences of its forward pass.
  @Test(arguments: [nil, 3] as [Int?])
  func theReferenceIsRight(window: Int?) {
    let shape = SegmentAttention.Shape(queryHeads: 2, keyHeads: 1, headDim: 3, window: window, scale: 0.6)
    let reference = DenseAttention(shape: shape)
    let qkv = numbers(5 * shape.stride, stream: 1).doubles
    let dOutput = numbers(5 * shape.outputStride, stream: 2).doubles
    let expected = centralDifferences(qkv) { dot(reference.forward($0).output, dOutput) }
    let found = reference.backward(qkv, dOutput: dOutput)
    #expect(zip(found, expected).allSatisfy { abs($0 - $1) < 1e-8 })
  }

  private func compare(
    _ pairs: [Lengths], _ heads: (query: Int, key: Int), headDim: Int, window: Int?, threads: Int, magnitude: Float = 1,
    precision: ProductPrecision = .float32, tolerance: Double = 3e-6, location: SourceLocation = #_sourceLocation
  ) {
    let problem = Problem(pairs, heads: heads, headDim: headDim, window: window, magnitude: magnitude)
    let found = problem.run(threads: threads, precision: precision)
    let expected = problem.reference()
    let errors = [
      largestError(found.output, expected.output), largestError(found.lse, expected.lse),
      largestError(found.dQKV, expected.dQKV),
    ]
    #expect(
      errors.allSatisfy { $0 < tolerance }, "\(pairs) heads \(heads) of \(headDim): output, lse, dQKV off by \(errors)",
      sourceLocation: location)
  }
}

/// Rows of some pairs laid end to end, with random queries, keys, values and gradients of the output.
private struct Problem {
  let shape: SegmentAttention.Shape
  let pairs: [SegmentAttentionTests.Lengths]
  let rows: Int
  let qkv: [Float]
  let dOutput: [Float]

  init(
    _ pairs: [SegmentAttentionTests.Lengths], heads: (query: Int, key: Int), headDim: Int, window: Int?,
    magnitude: Float = 1
  ) {
    self.pairs = pairs
    rows = pairs.reduce(0) { $0 + $1.prefix + $1.chosen + $1.rejected }
    shape = .init(
      queryHeads: heads.query, keyHeads: heads.key, headDim: headDim, window: window,
      scale: 1 / Float(headDim).squareRoot())
    qkv = numbers(rows * shape.stride, stream: 1, times: magnitude)
    dOutput = numbers(rows * shape.outputStride, stream: 2)
  }

  /// First rows of prefix, chosen and rejected of each pair.
  private var starts: [(prefix: Int, chosen: Int, rejected: Int)] {
    var next = 0
    return pairs.map { pair in
      defer { next += pair.prefix + pair.chosen + pair.rejected }
      return (next, next + pair.prefix, next + pair.prefix + pair.chosen)
    }
  }

  private var families: [[SegmentAttention.Segment]] {
    zip(pairs, starts).map { pair, start in
      [
        .init(prefixStart: start.prefix, prefixCount: 0, start: start.prefix, count: pair.prefix),
        .init(prefixStart: start.prefix, prefixCount: pair.prefix, start: start.chosen, count: pair.chosen),
        .init(prefixStart: start.prefix, prefixCount: pair.prefix, start: start.rejected, count: pair.rejected),
      ].filter { $0.count > 0 }
    }
  }

  func with(threads: Int, _ body: (SegmentAttention) -> Void) {
    let maxKeys = pairs.map { $0.prefix + max($0.chosen, $0.rejected) }.max() ?? 0
    let scratch = Memory(unset: SegmentAttention.scratchCount(shape, threads: threads, maxKeys: maxKeys))
    withPool(threads) { body(SegmentAttention(shape, pool: $0, maxKeys: maxKeys, scratch: scratch.pointer)) }
    #expect(scratch.isIntact)
  }

  func run(
    threads: Int, precision: ProductPrecision = .float32
  ) -> (output: [Float], lse: [Float], dQKV: [Float]) {
    let (qkv, dOutput) = (Memory(qkv), Memory(dOutput))
    let (output, lse) = (Memory(unset: dOutput.count), Memory(unset: rows * shape.queryHeads))
    let dQKV = Memory(unset: qkv.count)
    let rounded = UnsafeMutablePointer<BFloat16>.allocate(capacity: max(qkv.count, 1))
    defer { rounded.deallocate() }
    for index in 0..<qkv.count { rounded[index] = BFloat16(qkv.pointer[index]) }
    let factors = precision == .bfloat16 ? MatrixOperand(rounded, stride: shape.stride) : nil
    with(threads: threads) { attention in
      attention.forward(
        families.flatMap { $0 }, qkv.pointer, factors: factors, output.pointer, lse: lse.pointer)
      attention.backward(
        families, qkv.pointer, factors: factors, output: output.pointer, lse: lse.pointer, dOutput: dOutput.pointer,
        dQKV.pointer)
    }
    #expect(output.isIntact && lse.isIntact && dQKV.isIntact && qkv.values.bits == self.qkv.bits)
    return (output.values, lse.values, dQKV.values)
  }

  /// Each sequence alone. The gradient of the prefix's output goes to the first of them, gradients of its rows are
  /// added up.
  func reference() -> (output: [Double], lse: [Double], dQKV: [Double]) {
    let dense = DenseAttention(shape: shape)
    var output = [Double](repeating: .nan, count: rows * shape.outputStride)
    var lse = [Double](repeating: .nan, count: rows * shape.queryHeads)
    var dQKV = [Double](repeating: 0, count: rows * shape.stride)
    for (pair, start) in zip(pairs, starts) {
      let prefix = start.prefix..<(start.prefix + pair.prefix)
      for (index, branch) in [(start.chosen, pair.chosen), (start.rejected, pair.rejected)].enumerated() {
        let rows = Array(prefix) + Array(branch.0..<(branch.0 + branch.1))
        func gather(_ values: [Float], _ width: Int) -> [Double] {
          rows.flatMap { values[($0 * width)..<(($0 + 1) * width)].map(Double.init) }
        }
        let sequence = gather(qkv, shape.stride)
        var gradient = gather(dOutput, shape.outputStride)
        if index == 1 { for place in 0..<(pair.prefix * shape.outputStride) { gradient[place] = 0 } }
        let forward = dense.forward(sequence)
        let backward = dense.backward(sequence, dOutput: gradient)
        for (place, row) in rows.enumerated() {
          for i in 0..<shape.outputStride {
            output[row * shape.outputStride + i] = forward.output[place * shape.outputStride + i]
          }
          for i in 0..<shape.queryHeads { lse[row * shape.queryHeads + i] = forward.lse[place * shape.queryHeads + i] }
          for i in 0..<shape.stride { dQKV[row * shape.stride + i] += backward[place * shape.stride + i] }
        }
      }
    }
    return (output, lse, dQKV)
  }
}

/// Causal attention of one sequence, written as its definition, in fp64.
private struct DenseAttention {
  let shape: SegmentAttention.Shape

  func forward(_ qkv: [Double]) -> (output: [Double], lse: [Double]) {
    let rows = qkv.count / shape.stride
    var output = [Double](repeating: 0, count: rows * shape.outputStride)
    var lse = [Double](repeating: 0, count: rows * shape.queryHeads)
    for row in 0..<rows {
      for head in 0..<shape.queryHeads {
        let (probabilities, logSum) = probabilities(qkv, row: row, head: head)
        lse[row * shape.queryHeads + head] = logSum
        for (key, p) in probabilities {
          for i in 0..<shape.headDim {
            output[row * shape.outputStride + head * shape.headDim + i] += p * qkv[valuePlace(key, head) + i]
          }
        }
      }
    }
    return (output, lse)
  }

  func backward(_ qkv: [Double], dOutput: [Double]) -> [Double] {
    let dim = shape.headDim
    var dQKV = [Double](repeating: 0, count: qkv.count)
    for row in 0..<(qkv.count / shape.stride) {
      for head in 0..<shape.queryHeads {
        let query = row * shape.stride + head * dim
        let gradient = row * shape.outputStride + head * dim
        let (probabilities, _) = probabilities(qkv, row: row, head: head)
        let dP = probabilities.map { key, _ in
          (0..<dim).reduce(0.0) { $0 + dOutput[gradient + $1] * qkv[valuePlace(key, head) + $1] }
        }
        let mean = zip(probabilities, dP).reduce(0.0) { $0 + $1.0.1 * $1.1 }
        for ((key, p), dP) in zip(probabilities, dP) {
          let dScore = p * (dP - mean) * Double(shape.scale)
          for i in 0..<dim {
            dQKV[valuePlace(key, head) + i] += p * dOutput[gradient + i]
            dQKV[query + i] += dScore * qkv[keyPlace(key, head) + i]
            dQKV[keyPlace(key, head) + i] += dScore * qkv[query + i]
          }
        }
      }
    }
    return dQKV
  }

  private func probabilities(_ qkv: [Double], row: Int, head: Int) -> (keys: [(Int, Double)], logSum: Double) {
    let first = shape.window.map { max(0, row - $0 + 1) } ?? 0
    let query = row * shape.stride + head * shape.headDim
    let scores = (first...row).map { key in
      Double(shape.scale)
        * (0..<shape.headDim).reduce(0.0) { $0 + qkv[query + $1] * qkv[keyPlace(key, head) + $1] }
    }
    let largest = scores.max() ?? 0
    let logSum = largest + log(scores.reduce(0) { $0 + exp($1 - largest) })
    return (zip(first...row, scores).map { ($0, exp($1 - logSum)) }, logSum)
  }

  private func keyPlace(_ row: Int, _ head: Int) -> Int {
    row * shape.stride + (shape.queryHeads + head / shape.group) * shape.headDim
  }

  private func valuePlace(_ row: Int, _ head: Int) -> Int { keyPlace(row, head) + shape.keyHeads * shape.headDim }
}
