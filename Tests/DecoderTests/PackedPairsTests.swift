import Packing
import Tensors
import Testing

@Suite struct PackedPairsTests {
  private static func pair(_ chosen: [Int32], _ rejected: [Int32], prompt: Int = 1, rejectedPrompt: Int? = nil)
    -> TokenizedPair
  {
    TokenizedPair(
      chosen: chosen, rejected: rejected, chosenPromptLength: prompt, rejectedPromptLength: rejectedPrompt ?? prompt)
  }

  static let edgeCases: [TokenizedPair] = [
    pair([1, 2, 3, 4], [1, 2, 5]),
    pair([1, 2, 3], [7, 8, 9, 10]),  // no common first token
    pair([5, 6], [7, 6]),  // and nothing but it before a completion of one token
    pair([1, 2, 3], [1, 2, 3, 4, 5], prompt: 2),  // one is a prefix of the other
    pair([1, 2, 3, 4, 5], [1, 2, 3], prompt: 2),
    pair([1, 2, 3], [1, 2, 3], prompt: 2),  // the same
    pair([1], [1]), pair([1], [2]), pair([1], [1, 2]), pair([1, 2], [1, 3]), pair([], [], prompt: 0),
    pair([], [4, 5], prompt: 0),
    pair([1, 2, 3, 4, 9], [1, 2, 3, 8], prompt: 3, rejectedPrompt: 2),  // a token spans the boundary
    pair([1, 2, 3, 4], [1, 2, 3, 9], prompt: 3),  // completions of one token
    pair([1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 7, 8], prompt: 2),  // completions that begin alike
  ]

  static func randomPairs(_ count: Int, seed: UInt64) -> [TokenizedPair] {
    var random = CounterRandom(seed: seed, stream: 5)
    // Few different tokens, so that sequences often agree beyond the prompt.
    func tokens(_ count: Int) -> [Int32] { (0..<count).map { _ in Int32.random(in: 0..<3, using: &random) } }
    return (0..<count).map { _ in
      let prompt = tokens(Int.random(in: 0..<8, using: &random))
      return pair(
        prompt + tokens(Int.random(in: 1..<6, using: &random)), prompt + tokens(Int.random(in: 1..<6, using: &random)),
        prompt: prompt.count, rejectedPrompt: max(prompt.count - Int.random(in: 0..<2, using: &random), 0))
    }
  }

  @Test(arguments: edgeCases)
  func edgeCasesEqualTheNaiveExpansion(pair: TokenizedPair) throws { try check([pair]) }

  @Test func edgeCasesTogetherEqualTheNaiveExpansion() throws { try check(Self.edgeCases) }

  @Test(arguments: 0..<20 as Range<UInt64>)
  func randomPairsEqualTheNaiveExpansion(seed: UInt64) throws { try check(Self.randomPairs(30, seed: seed)) }

  @Test func nothingIsNothing() {
    let packed = PackedPairs([TokenizedPair]())
    #expect(packed.rowCount == 0 && packed.predictionCount == 0 && packed.pairs.isEmpty)
  }

  /// Both sequences of every pair are read back from rows and predictions alone.
  private func check(_ pairs: [TokenizedPair]) throws {
    let packed = PackedPairs(pairs)
    try #require(packed.pairs.count == pairs.count)
    #expect(packed.tokens.count == packed.rowCount && packed.positions.count == packed.rowCount)
    #expect(packed.labels.count == packed.predictionCount && packed.predictionRows.count == packed.predictionCount)
    #expect(packed.rowCount == pairs.map(\.rowCount).reduce(0, +))
    var (nextRow, nextPrediction) = (0, 0)
    for (pair, place) in zip(pairs, packed.pairs) {
      // End to end, prefix first.
      #expect(place.prefixRows.lowerBound == nextRow && place.rows.count == pair.rowCount)
      #expect(place.prefixRows.upperBound == place.chosenRows.lowerBound)
      #expect(place.chosenRows.upperBound == place.rejectedRows.lowerBound)
      #expect(place.sharedPredictions.lowerBound == nextPrediction)
      #expect(place.sharedPredictions.upperBound == place.chosenPredictions.lowerBound)
      #expect(place.chosenPredictions.upperBound == place.rejectedPredictions.lowerBound)
      (nextRow, nextPrediction) = (place.rejectedRows.upperBound, place.rejectedPredictions.upperBound)

      try check(
        pair.chosen, packed, place, branch: place.chosenRows, predictions: place.chosenPredictions,
        promptLength: pair.chosenPromptLength, promptPredictions: place.chosenPromptPredictions,
        completionCount: place.chosenCompletionCount)
      try check(
        pair.rejected, packed, place, branch: place.rejectedRows, predictions: place.rejectedPredictions,
        promptLength: pair.rejectedPromptLength, promptPredictions: place.rejectedPromptPredictions,
        completionCount: place.rejectedCompletionCount)
      let shared = pair.sharedPrefixLength
      #expect(place.sharedPredictions.count == max(shared - 1, 0))
      for row in place.prefixRows { #expect(packed.positions[row] == Int32(row - place.prefixRows.lowerBound)) }
    }
    #expect(nextRow == packed.rowCount && nextPrediction == packed.predictionCount)
  }

  private func check(
    _ sequence: [Int32], _ packed: PackedPairs, _ place: PackedPairs.Pair, branch: Range<Int>, predictions: Range<Int>,
    promptLength: Int, promptPredictions: Int, completionCount: Int
  ) throws {
    let all = Array(place.sharedPredictions) + Array(predictions)
    try #require(all.count == max(sequence.count - 1, 0))
    for (index, prediction) in all.enumerated() {
      let row = Int(packed.predictionRows[prediction])
      #expect(packed.labels[prediction] == sequence[index + 1])
      #expect(packed.tokens[row] == sequence[index])
      #expect(packed.positions[row] == Int32(index))
      #expect(place.prefixRows.contains(row) || branch.contains(row))
    }
    #expect(promptPredictions == max(promptLength - 1, 0))
    if !sequence.isEmpty, promptLength > 0 { #expect(completionCount == sequence.count - promptLength) }
  }
}
