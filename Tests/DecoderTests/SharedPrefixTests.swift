import Decoder
import Kernels
import Packing
import Tensors
import Testing

/// What is shared or kept between computations must not change them.
@Suite struct SharedPrefixTests {
  /// Gradients and log-probabilities of some pairs with given weights on predictions.
  private struct Run {
    var logps: [[Float]] = []
    var gradients: [Float]
    var layout: ParameterLayout
  }

  private func run(
    _ decoder: Decoder, _ batches: [(pairs: PackedPairs, weights: [Float])], keptRows: Int? = nil,
    checkpointing: Bool = false, logitsBudget: Int = 256 << 20
  ) -> Run {
    decoder.reserve(
      .init(
        rows: batches.map(\.pairs.rowCount).max() ?? 0, sequence: batches.map(\.pairs.longestSequence).max() ?? 0,
        training: true, keptRows: keptRows, checkpointing: checkpointing, logitsBudget: logitsBudget))
    var run = Run(gradients: [Float](repeating: 0, count: decoder.layout.count), layout: decoder.layout)
    for (pairs, weights) in batches {
      var logps = [Float](repeating: .nan, count: pairs.predictionCount)
      logps.withUnsafeMutableBufferPointer { decoder.forward(pairs, logps: $0) }
      run.gradients.withUnsafeMutableBufferPointer { gradients in
        guard let start = gradients.baseAddress else { return }
        weights.withUnsafeBufferPointer { decoder.backward(pairs, weights: $0, into: start) }
      }
      run.logps.append(logps)
    }
    return run
  }

  private func weights(_ count: Int, stream: UInt64) -> [Float] {
    var random = CounterRandom(seed: 9, stream: stream)
    return (0..<count).map { _ in random.normal() }
  }

  /// A sequence by itself: its pair is a sequence of one token, which has no row.
  private func alone(_ sequence: [Int32]) -> PackedPairs {
    let other = sequence.first == 0 ? 1 : 0 as Int32
    return PackedPairs([
      TokenizedPair(chosen: sequence, rejected: [other], chosenPromptLength: 1, rejectedPromptLength: 1)
    ])
  }

  private func expectSharingChangesNothing(
    _ decoder: Decoder, _ pairs: [TokenizedPair], _ name: String, location: SourceLocation = #_sourceLocation
  ) {
    let packed = PackedPairs(pairs)
    let weights = weights(packed.predictionCount, stream: 1)
    let shared = run(decoder, [(packed, weights)])
    var unshared: [(pairs: PackedPairs, weights: [Float])] = []
    for (pair, place) in zip(pairs, packed.pairs) {
      let before = [Float](repeating: 0, count: place.sharedPredictions.count)
      unshared.append((alone(pair.chosen), Array(weights[place.sharedPredictions] + weights[place.chosenPredictions])))
      unshared.append((alone(pair.rejected), before + weights[place.rejectedPredictions]))
    }
    let separate = run(decoder, unshared)
    for (index, place) in packed.pairs.enumerated() {
      let logps = shared.logps[0]
      let chosen = Array(logps[place.sharedPredictions] + logps[place.chosenPredictions])
      let rejected = Array(logps[place.sharedPredictions] + logps[place.rejectedPredictions])
      #expect(relativeDistance(chosen, separate.logps[2 * index]) < 1e-5, sourceLocation: location)
      #expect(relativeDistance(rejected, separate.logps[2 * index + 1]) < 1e-5, sourceLocation: location)
    }
    for entry in shared.layout.entries {
      let distance = relativeDistance(shared.gradients[entry.range], Array(separate.gradients[entry.range]))
      #expect(distance < 1e-5, "\(name): \(entry.name) differs by \(distance)", sourceLocation: location)
    }
  }

  @Test(arguments: GoldenModel.names, [1, 3])
  func sharedPrefixesGiveTheGradientsOfWholeSequences(name: String, threads: Int) throws {
    let model = try GoldenModel(name)
    // Dynamic angles depend on the length of the pair's longer sequence: here within the limit, where they do not.
    let limit = name == "rope-dynamic" ? model.configuration.maxPositionEmbeddings : .max
    let pairs = model.pairs.filter { max($0.chosen.count, $0.rejected.count) <= limit }
    try #require(!pairs.isEmpty)
    try withDecoder(model.configuration, threads: threads) { decoder in
      try decoder.load(from: model.weights)
      expectSharingChangesNothing(decoder, pairs, name)
    }
  }

  static let small = DecoderConfiguration(
    family: .mistral, vocabSize: 97, hiddenSize: 24, intermediateSize: 40, numHiddenLayers: 2, numAttentionHeads: 6,
    numKeyValueHeads: 2, headDim: 8, rmsNormEps: 1e-5, rope: .init(theta: 10_000), maxPositionEmbeddings: 1024,
    tieWordEmbeddings: false)

  /// Longer than attention's tiles and the head's blocks of rows, with prefixes inside and beyond the window.
  @Test(arguments: [nil, 40, 200] as [Int?], [1, 2])
  func longSharedPrefixesToo(window: Int?, threads: Int) throws {
    var configuration = Self.small
    configuration.slidingWindow = window
    try withDecoder(configuration, threads: threads) { decoder in
      decoder.initialize(seed: 4, initializerRange: 0.15)
      expectSharingChangesNothing(
        decoder, [longPair(prefix: 150, 121, 70), longPair(prefix: 0, 65, 130), longPair(prefix: 129, 1, 64)],
        "window \(window ?? 0)")
    }
  }

  /// Four blocks of rows in the head, with room for all, for some, for one: blocks without room are computed again.
  /// Sums over kept rows are longer ones.
  @Test(arguments: [1, 2])
  func logitsComputedAgainGiveTheSame(threads: Int) throws {
    let packed = PackedPairs([longPair(prefix: 300, 200, 150), longPair(prefix: 100, 60, 80)])
    try #require(packed.rowCount > 3 * 256 && packed.rowCount < 4 * 256)
    let weights = weights(packed.predictionCount, stream: 2)
    let block = 256 * Self.small.vocabSize * 4
    func gradients(budget: Int) throws -> [Float] {
      try withDecoder(Self.small, threads: threads) { decoder in
        decoder.initialize(seed: 4, initializerRange: 0.15)
        return run(decoder, [(packed, weights)], logitsBudget: budget).gradients
      }
    }
    let kept = try gradients(budget: 4 * block)
    for slots in 0...3 {
      #expect(relativeDistance(try gradients(budget: slots * block), kept) < 1e-6, "\(slots) blocks kept")
    }
  }

  /// Layers that keep less compute the rest again: the same bits, and never more memory.
  @Test(arguments: [ProductPrecision.float32, .bfloat16], [1, 2])
  func layersThatKeepLessGiveTheSameBits(precision: ProductPrecision, threads: Int) throws {
    guard precision == .float32 || ProductPrecision.hasBFloat16 else { return }
    let long = PackedPairs([longPair(prefix: 300, 200, 150)])
    let short = PackedPairs([longPair(prefix: 100, 60, 80)])
    let batches = [long, short].map { ($0, weights($0.predictionCount, stream: 6)) }
    var configuration = Self.small
    configuration.numHiddenLayers = 4
    func result(keptRows: Int?, checkpointing: Bool = false) throws -> (bits: [UInt32], bytes: Int) {
      try withDecoder(configuration, threads: threads, precision: precision) { decoder in
        decoder.initialize(seed: 4, initializerRange: 0.15)
        decoder.parametersChanged()
        // No logits are kept in any of the runs: a sum over kept rows is another sum.
        let run = run(decoder, batches, keptRows: keptRows, checkpointing: checkpointing, logitsBudget: 0)
        return ((run.logps.flatMap { $0 } + run.gradients).map(\.bitPattern), decoder.reservedBytes)
      }
    }
    let whole = try result(keptRows: nil)
    var bytes = whole.bytes
    // From most of the layers' gate and up down to nothing but the residual stream.
    for rows in [600, 500, 400, 300, 200, 1] {
      let less = try result(keptRows: rows)
      let isSame = less.bits == whole.bits
      #expect(isSame, "\(rows) rows kept")
      #expect(less.bytes < bytes || rows == 1, "\(rows) rows kept")
      bytes = less.bytes
    }
    let least = try result(keptRows: nil, checkpointing: true)
    let isSame = least.bits == whole.bits
    #expect(isSame && least.bytes <= bytes)
  }

  @Test func memoryIsKnownWithoutTakingIt() throws {
    for checkpointing in [false, true] {
      let limits = Decoder.MemoryLimits(
        rows: 700, sequence: 500, training: true, keptRows: 300, checkpointing: checkpointing)
      let reserved = try withDecoder(Self.small, threads: 3) { decoder in
        decoder.reserve(limits)
        return decoder.reservedBytes
      }
      #expect(Decoder.memoryBytes(Self.small, limits, threads: 3) == reserved)
    }
  }

  /// A large micro-batch leaves nothing behind that a smaller one would see.
  @Test func memoryIsUsedAgain() throws {
    let (large, little) = (PackedPairs([longPair(prefix: 20, 70, 90)]), PackedPairs([longPair(prefix: 3, 4, 5)]))
    try withDecoder(Self.small, threads: 2) { decoder in
      decoder.initialize(seed: 4, initializerRange: 0.15)
      let weights = [large, little].map { self.weights($0.predictionCount, stream: 3) }
      let little1 = run(decoder, [(little, weights[1])])
      let both = run(decoder, [(large, weights[0]), (little, weights[1])])
      let reserved = decoder.reservedBytes
      let little2 = run(decoder, [(little, weights[1])])
      #expect(decoder.reservedBytes == reserved)
      #expect(little1.logps[0] == little2.logps[0] && little1.logps[0] == both.logps[1])
      #expect(little1.gradients == little2.gradients)
    }
  }

  /// Evaluation keeps no layers: the same log-probabilities, less memory.
  @Test(arguments: GoldenModel.names)
  func evaluationGivesTheSameLogProbabilities(name: String) throws {
    let model = try GoldenModel(name)
    let packed = PackedPairs(model.pairs)
    var bytes: [Int] = []
    let logps = try [true, false].map { training in
      try withDecoder(model.configuration, threads: 2) { decoder in
        try decoder.load(from: model.weights)
        decoder.reserve(.init(rows: packed.rowCount, sequence: packed.longestSequence, training: training))
        bytes.append(decoder.reservedBytes)
        var logps = [Float](repeating: .nan, count: packed.predictionCount)
        logps.withUnsafeMutableBufferPointer { decoder.forward(packed, logps: $0) }
        return logps
      }
    }
    #expect(logps[0] == logps[1])
    #expect(bytes[1] < bytes[0])
  }

  @Test(arguments: PackedPairsTests.edgeCases)
  func edgeCasesAreFinite(pair: TokenizedPair) throws {
    try withDecoder(Self.small, threads: 2) { decoder in
      decoder.initialize(seed: 4, initializerRange: 0.15)
      let packed = PackedPairs([pair])
      let result = run(decoder, [(packed, weights(packed.predictionCount, stream: 4))])
      #expect(result.logps[0].allSatisfy { $0 < 0 } && result.gradients.allSatisfy { $0.isFinite })
    }
  }

  private func longPair(prefix: Int, _ chosen: Int, _ rejected: Int) -> TokenizedPair {
    var random = CounterRandom(seed: 8, stream: UInt64(prefix))
    func tokens(_ count: Int) -> [Int32] { (0..<count).map { _ in Int32.random(in: 3..<97, using: &random) } }
    let start = tokens(prefix)
    return TokenizedPair(
      chosen: start + [1] + tokens(chosen), rejected: start + [2] + tokens(rejected), chosenPromptLength: prefix,
      rejectedPromptLength: prefix)
  }
}

@discardableResult
func withDecoder<Result>(
  _ configuration: DecoderConfiguration, threads: Int = 1, precision: ProductPrecision = .float32,
  _ body: (Decoder) throws -> Result
) throws -> Result {
  let pool = ThreadPool(threads: threads)
  defer { pool.stop() }
  return try body(try Decoder(configuration, pool: pool, precision: precision))
}
