import Foundation
import Kernels
import Testing

@Suite struct TokenLogProbabilityTests {
  private static func logPartition(_ logits: some Collection<Double>) -> Double {
    let largest = logits.max() ?? 0
    return largest + log(logits.reduce(0) { $0 + exp($1 - largest) })
  }

  private static func logPartition(_ logits: [Float], rows: Int = 1, threads: Int = 1) -> [Float] {
    let (x, logZ) = (Memory(logits), Memory(unset: rows))
    withPool(threads) {
      TokenLogProbability.logPartition(
        $0, rows: rows, vocabulary: rows == 0 ? 5 : logits.count / rows, x.pointer, logZ.pointer)
    }
    #expect(logZ.isIntact && x.values.bits == logits.bits)
    return logZ.values
  }

  @Test(arguments: [(0, 5), (1, 1), (1, 17), (7, 33), (17, 100)], threadCounts)
  func logPartitionEqualsFP64(shape: (rows: Int, vocabulary: Int), threads: Int) {
    for scale in [Float(0.1), 5, 1e4] {
      let logits = numbers(shape.rows * shape.vocabulary, stream: 1, times: scale)
      let found = Self.logPartition(logits, rows: shape.rows, threads: threads)
      for row in 0..<shape.rows {
        let exact = Self.logPartition(logits.doubles[(row * shape.vocabulary)..<((row + 1) * shape.vocabulary)])
        #expect(abs(Double(found[row]) - exact) <= 3e-7 * max(1, abs(exact)))
      }
    }
  }

  @Test(arguments: [Float(0), 1e4, -1e4, 1e-4])
  func equalLogitsGiveTheLogOfTheirNumber(logit: Float) {
    for vocabulary in [1, 2, 16, 17, 50_001] {
      let found = Self.logPartition([Float](repeating: logit, count: vocabulary))[0]
      #expect(abs(Double(found) - Double(logit) - log(Double(vocabulary))) <= 1e-7 * Double(max(abs(logit), 12)) * 2)
    }
  }

  @Test func oneLargeLogitLeavesNothingToTheOthers() {
    var logits = [Float](repeating: -1e4, count: 33)
    logits[20] = 1e4
    #expect(Self.logPartition(logits) == [1e4])
    logits = [Float](repeating: -.infinity, count: 33)
    logits[32] = -3
    #expect(Self.logPartition(logits) == [-3])
  }

  @Test func notANumberIsNotHidden() {
    for place in [0, 15, 16, 32] {
      var logits = numbers(33, stream: 1)
      logits[place] = .nan
      #expect(Self.logPartition(logits)[0].isNaN)
    }
  }

  /// `softmax(times:)` with the weights added at the labels, as the head uses it, against differences of sum w * logp.
  @Test(arguments: oddSizes)
  func gradientEqualsCentralDifferences(vocabulary: Int) {
    let logits = numbers(vocabulary, stream: 1, times: 2)
    let labels = [0, vocabulary - 1]
    for weights in [[0.7, -0.2], [0.5, -0.5], [0, 0]] as [[Float]] {
      let x = Memory(logits)
      let logZ = Self.logPartition(logits)[0]
      TokenLogProbability.softmax(
        times: -(weights[0] + weights[1]), vocabulary: vocabulary, logZ: logZ, x.pointer)
      for (label, weight) in zip(labels, weights) { x.pointer[label] += weight }
      let expected = centralDifferences(logits.doubles) { logits in
        zip(labels, weights).reduce(0.0) {
          $0 + Double($1.1) * (logits[$1.0] - Self.logPartition(logits))
        }
      }
      for (found, expected) in zip(x.values, expected) { #expect(abs(Double(found) - expected) < 1e-6) }
      #expect(x.isIntact)
    }
  }
}
