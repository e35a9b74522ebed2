import Decoder
import Foundation
import Packing
import Testing

@Suite struct DecodingSessionTests {
  /// Log-probability of each token of `sequence` after the first, from the logits of a session.
  private func logProbabilities(_ decoder: Decoder, _ sequence: [Int32]) -> [Float] {
    let session = DecodingSession(decoder, capacity: sequence.count)
    return zip(sequence, sequence.dropFirst()).map { token, label in
      logProbability(session.feed([token]).map(Double.init), label)
    }
  }

  private func logProbability(_ logits: [Double], _ label: Int32) -> Float {
    let largest = logits.max() ?? 0
    return Float(logits[Int(label)] - largest - log(logits.reduce(0) { $0 + exp($1 - largest) }))
  }

  /// Pairs that dynamic angles treat as any other: within the model's own reach.
  private func sequences(_ model: GoldenModel) -> [(name: String, tokens: [Int32])] {
    model.pairs.enumerated().flatMap { index, pair in
      [("logps.\(index).chosen", pair.chosen), ("logps.\(index).rejected", pair.rejected)].filter { _ in
        model.name != "rope-dynamic"
          || max(pair.chosen.count, pair.rejected.count) <= model.configuration.maxPositionEmbeddings
      }
    }
  }

  @Test(arguments: GoldenModel.names, [1, 2])
  func tokenByTokenGivesPyTorchsLogProbabilities(name: String, threads: Int) throws {
    let model = try GoldenModel(name)
    try withDecoder(model.configuration, threads: threads) { decoder in
      try decoder.load(from: model.weights)
      for (golden, tokens) in sequences(model) {
        #expect(relativeDistance(logProbabilities(decoder, tokens), try model.tensor(golden)) < 1e-5, "\(golden)")
      }
    }
  }

  @Test(arguments: GoldenModel.names, [[3, 1, 2], [1, 4], [5], [2, 2, 2, 2]])
  func chunksGiveTheSameLogits(name: String, chunks: [Int]) throws {
    let model = try GoldenModel(name)
    try withDecoder(model.configuration, threads: 2) { decoder in
      try decoder.load(from: model.weights)
      for (golden, tokens) in sequences(model) {
        let single = DecodingSession(decoder, capacity: tokens.count)
        let chunked = DecodingSession(decoder, capacity: tokens.count + 3)
        var fed = 0
        for chunk in chunks + [tokens.count] where fed < tokens.count {
          let next = Array(tokens[fed..<min(fed + chunk, tokens.count)])
          fed += next.count
          let found = Array(chunked.feed(next))
          var expected: [Float] = []
          for token in next { expected = Array(single.feed([token])) }
          #expect(relativeDistance(found, expected) < 1e-5, "\(golden) after \(fed) tokens")
          #expect(chunked.count == fed && single.count == fed)
        }
      }
    }
  }

  /// Longer than attention's tiles, with a window.
  @Test(arguments: [nil, 30] as [Int?])
  func aLongPromptEqualsItsTokens(window: Int?) throws {
    var configuration = SharedPrefixTests.small
    configuration.slidingWindow = window
    try withDecoder(configuration, threads: 2) { decoder in
      decoder.initialize(seed: 6, initializerRange: 0.15)
      let tokens = (0..<150).map { Int32($0 * 37 % 97) }
      let (whole, parts) = (DecodingSession(decoder, capacity: 150), DecodingSession(decoder, capacity: 150))
      let expected = Array(whole.feed(tokens))
      for start in stride(from: 0, to: 140, by: 70) { _ = parts.feed(Array(tokens[start..<(start + 70)])) }
      var found: [Float] = []
      for token in tokens[140...] { found = Array(parts.feed([token])) }
      #expect(relativeDistance(found, expected) < 1e-5)
    }
  }
}

@Suite struct TokenSamplerTests {
  private static let logits: [Float] = [2, -1, 0.5, 1.5, -3, 0, 1.9]

  private func draw(_ count: Int, temperature: Float, topP: Float, seed: UInt64 = 1, _ logits: [Float] = logits)
    -> [Int]
  {
    var sampler = TokenSampler(temperature: temperature, topP: topP, seed: seed)
    return (0..<count).map { _ in
      var copy = logits
      return copy.withUnsafeMutableBufferPointer { Int(sampler.next($0)) }
    }
  }

  /// What the definition says: softmax at the temperature, the likeliest tokens until they hold `topP`, renormalised.
  private func expected(temperature: Double, topP: Double) -> [Double] {
    let weights = Self.logits.map { exp(Double($0) / temperature) }
    let total = weights.reduce(0, +)
    var kept = weights.map { _ in 0.0 }
    var mass = 0.0
    for index in weights.indices.sorted(by: { weights[$0] > weights[$1] }) where mass < topP {
      kept[index] = weights[index] / total
      mass += kept[index]
    }
    return kept.map { $0 / mass }
  }

  @Test(arguments: [Float(0.5), 1, 2.5], [Float(1), 0.9, 0.6, 0.3])
  func drawsFollowTheDistribution(temperature: Float, topP: Float) {
    let count = 40_000
    var frequencies = Self.logits.map { _ in 0.0 }
    for token in draw(count, temperature: temperature, topP: topP) { frequencies[token] += 1 / Double(count) }
    let expected = expected(temperature: Double(temperature), topP: Double(topP))
    for (found, expected) in zip(frequencies, expected) {
      // Five standard deviations; what is cut never comes.
      #expect(abs(found - expected) <= 5 * (expected * (1 - expected) / Double(count)).squareRoot() + 1e-9)
    }
  }

  @Test func temperatureZeroTakesTheLargest() {
    #expect(Set(draw(20, temperature: 0, topP: 1)) == [0])
    #expect(Set(draw(20, temperature: 0, topP: 0.1, [1, 3, 3, 2])) == [1])
    #expect(Set(draw(20, temperature: 0, topP: 1, [Float](repeating: -1, count: 20) + [0])) == [20])
  }

  @Test func aTinyShareOrTemperatureTakesTheLargest() {
    #expect(Set(draw(50, temperature: 1, topP: 0)) == [0])
    #expect(Set(draw(50, temperature: 1, topP: 1e-6)) == [0])
    for temperature in [Float(1e-3), 1e-6, 1e-20, 1e-38, .leastNonzeroMagnitude] {
      #expect(Set(draw(50, temperature: temperature, topP: 1)) == [0], "temperature \(temperature)")
      #expect(Set(draw(50, temperature: temperature, topP: 0.9)) == [0], "temperature \(temperature)")
    }
  }

  @Test func seedsReproduce() {
    let first = draw(200, temperature: 1.5, topP: 0.95, seed: 7)
    #expect(draw(200, temperature: 1.5, topP: 0.95, seed: 7) == first)
    #expect(draw(200, temperature: 1.5, topP: 0.95, seed: 8) != first)
  }

  /// Tokens excluded by a logit of minus infinity never come.
  @Test func excludedTokensNeverCome() {
    var logits = [Float](repeating: -.infinity, count: 100)
    logits[17] = 0
    logits[99] = 1
    #expect(Set(draw(500, temperature: 1, topP: 1, logits)) == [17, 99])
  }
}
