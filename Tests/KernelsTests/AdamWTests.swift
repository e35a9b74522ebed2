import Foundation
import Kernels
import Tensors
import Testing

@Suite struct AdamWTests {
  /// Parameters, moments and gradients of one problem, and what `AdamW` makes of them.
  private struct Problem {
    var parameters: [Float]
    var firstMoments: [Float]
    var secondMoments: [Float]

    init(parameters: [Float]) {
      self.parameters = parameters
      firstMoments = parameters.map { _ in 0 }
      secondMoments = firstMoments
    }

    mutating func update(
      _ gradients: [Float], step: Int, learningRate: Double, scale: Float = 1, _ hyperparameters: AdamW.Hyperparameters,
      pieces: [Range<Int>]? = nil
    ) {
      for piece in pieces ?? [0..<parameters.count] {
        parameters.withUnsafeMutableBufferPointer { p in
          firstMoments.withUnsafeMutableBufferPointer { m in
            secondMoments.withUnsafeMutableBufferPointer { v in
              gradients.withUnsafeBufferPointer { g in
                guard let p = p.baseAddress, let m = m.baseAddress, let v = v.baseAddress, let g = g.baseAddress else {
                  return
                }
                AdamW.update(
                  parameters: p + piece.lowerBound, gradients: g + piece.lowerBound, firstMoments: m + piece.lowerBound,
                  secondMoments: v + piece.lowerBound, count: piece.count, step: step, learningRate: learningRate,
                  gradientScale: scale, hyperparameters)
              }
            }
          }
        }
      }
    }
  }

  private static func numbers(_ count: Int, stream: UInt64) -> [Float] {
    var random = CounterRandom(seed: 11, stream: stream)
    return (0..<count).map { _ in random.normal() * Float(pow(10, Double(random.next() % 8) - 5)) }
  }

  @Test(arguments: [1, 2, 15, 16, 17, 31, 64, 1000])
  func equalsAnFP64Implementation(count: Int) {
    let hyperparameters = AdamW.Hyperparameters(beta1: 0.9, beta2: 0.99, epsilon: 1e-7, weightDecay: 0.3)
    var problem = Problem(parameters: Self.numbers(count, stream: 0))
    var p = problem.parameters.map(Double.init)
    var m = p.map { _ in 0.0 }
    var v = m
    for step in 1...7 {
      let gradients = Self.numbers(count, stream: UInt64(step))
      let learningRate = 0.01 / Double(step)
      problem.update(gradients, step: step, learningRate: learningRate, scale: 0.25, hyperparameters)
      for index in 0..<count {
        let g = Double(gradients[index]) * 0.25
        p[index] *= 1 - learningRate * 0.3
        m[index] = 0.9 * m[index] + 0.1 * g
        v[index] = 0.99 * v[index] + 0.01 * g * g
        let corrected = m[index] / (1 - pow(0.9, Double(step)))
        p[index] -= learningRate * corrected / ((v[index] / (1 - pow(0.99, Double(step)))).squareRoot() + 1e-7)
      }
    }
    for index in 0..<count {
      #expect(abs(Double(problem.parameters[index]) - p[index]) <= 1e-6 * (abs(p[index]) + 0.01))
      #expect(
        abs(Double(problem.firstMoments[index]) - m[index]) <= 2e-6 * abs(m[index]) + 1e-6 * v[index].squareRoot())
      #expect(abs(Double(problem.secondMoments[index]) - v[index]) <= 2e-6 * v[index])
    }
  }

  @Test func equalsPyTorch() throws {
    let golden = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("Golden/adamw.txt")
    var problem = Problem(parameters: [])
    var hyperparameters = AdamW.Hyperparameters()
    var learningRate = 0.0
    var step = 0
    var gradients: [Float] = []
    var compared = 0
    func close(_ values: [Float], _ expected: [Float], _ tolerance: Float) -> Bool {
      values.count == expected.count
        && zip(values, expected).allSatisfy { abs($0 - $1) <= tolerance * (abs($1) + 1e-3) }
    }
    for line in try String(contentsOf: golden, encoding: .utf8).split(separator: "\n") {
      let fields = line.split(separator: " ")
      let values = fields.dropFirst().compactMap { Double($0) }
      let floats = values.map { Float($0) }
      switch fields[0] {
      case "case":
        learningRate = values[0]
        hyperparameters = .init(beta1: values[1], beta2: values[2], epsilon: values[3], weightDecay: values[4])
        step = 0
      case "start": problem = Problem(parameters: floats)
      case "gradients": gradients = floats
      case "parameters":
        step += 1
        problem.update(gradients, step: step, learningRate: learningRate, hyperparameters)
        // A parameter is as exact as the steps it is made of.
        let exact = zip(problem.parameters, floats).allSatisfy {
          abs(Double($0 - $1)) <= 5e-7 * (Double(abs($1)) + learningRate)
        }
        #expect(exact && problem.parameters.count == floats.count, "step \(step) at learning rate \(learningRate)")
        compared += 1
      case "firstMoments":
        #expect(zip(problem.firstMoments, floats).allSatisfy { abs($0 - $1) <= 2e-6 * abs($1) + 1e-10 })
      case "secondMoments":
        #expect(zip(problem.secondMoments, floats).allSatisfy { abs($0 - $1) <= 2e-6 * $1 })
      default: Issue.record("unknown line \(fields[0])")
      }
    }
    #expect(compared == 15)
  }

  @Test func aCutRangeGivesTheSameBits() {
    let count = 203
    let hyperparameters = AdamW.Hyperparameters(weightDecay: 0.01)
    var whole = Problem(parameters: Self.numbers(count, stream: 0))
    var cut = whole
    let pieces = [0..<1, 1..<20, 20..<52, 52..<69, 69..<69, 69..<203]
    for step in 1...4 {
      let gradients = Self.numbers(count, stream: UInt64(step))
      whole.update(gradients, step: step, learningRate: 1e-3, hyperparameters)
      cut.update(gradients, step: step, learningRate: 1e-3, hyperparameters, pieces: pieces)
    }
    #expect(whole.parameters.map(\.bitPattern) == cut.parameters.map(\.bitPattern))
    #expect(whole.secondMoments.map(\.bitPattern) == cut.secondMoments.map(\.bitPattern))
  }

  /// PyTorch's factor 1 - lr * decay is 1 in fp32 here: its parameters would not decay at all.
  @Test func aSmallDecayIsNotLostBesideAnUpdate() {
    let count = 2000
    let learningRate = 5e-6
    let weightDecay = 0.004
    #expect(Float(1 - learningRate * weightDecay) == 1)
    var decayed = Problem(parameters: [Float](repeating: 1, count: count))
    var plain = decayed
    var random = CounterRandom(seed: 3, stream: 0)
    for step in 1...400 {
      let gradients = (0..<count).map { _ in random.normal() }
      decayed.update(gradients, step: step, learningRate: learningRate, .init(weightDecay: weightDecay))
      plain.update(gradients, step: step, learningRate: learningRate, .init())
    }
    let lost = zip(plain.parameters, decayed.parameters).reduce(0) { $0 + Double($1.0 - $1.1) } / Double(count)
    let expected = 400 * learningRate * weightDecay
    #expect(abs(lost - expected) < 0.1 * expected, "mean loss \(lost), expected \(expected)")
  }

  @Test func noGradientLeavesAParameterAlone() {
    var problem = Problem(parameters: [0, -1.5, 3, 1e-20])
    problem.update([0, 0, 0, 0], step: 1, learningRate: 1, .init())
    #expect(problem.parameters == [0, -1.5, 3, 1e-20])
  }

  @Test func aValueThatIsNotFiniteStaysVisible() {
    var problem = Problem(parameters: [1, 1, 1])
    problem.update([.nan, .infinity, 1], step: 1, learningRate: 0.1, .init())
    #expect(problem.parameters[0].isNaN && problem.parameters[1].isNaN && problem.parameters[2].isFinite)
  }
}
