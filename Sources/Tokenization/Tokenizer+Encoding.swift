internal import Synchronization

extension Tokenizer {
  /// The ids of `text`.
  /// - Parameter addSpecialTokens: put the post-processor's tokens around them (as `bos`). Chat templates already
  ///   contain theirs.
  package func encode(_ text: String, addSpecialTokens: Bool = false) throws -> [Int32] {
    var text = text
    var encoding = pool.take()
    defer { pool.give(encoding) }
    encoding.ids.removeAll(keepingCapacity: true)
    try text.withUTF8 { text in
      let budget = MatchBudget(bytes: text.count)
      for segment in rawMatcher.segments(of: text) {
        switch segment {
        case .token(let id): encoding.ids.append(id)
        case .text(let range):
          try encodePiece(text[bytes: range], startsText: range.lowerBound == 0, budget, &encoding)
        }
      }
    }
    return addSpecialTokens ? postProcessor(encoding.ids) : encoding.ids
  }

  /// A stretch without added tokens of the first kind.
  private func encodePiece(
    _ text: Bytes, startsText: Bool, _ budget: MatchBudget, _ encoding: inout Encoding
  ) throws(TokenizerError) {
    let normalized = normalizer?(Array(text), budget) ?? Array(text)
    if normalizedMatcher.isEmpty { return try encodeWords(normalized, startsText: startsText, budget, &encoding) }
    let segments = normalized.withUnsafeBufferPointer(normalizedMatcher.segments)
    for segment in segments {
      switch segment {
      case .token(let id): encoding.ids.append(id)
      case .text(let range):
        try encodeWords(Array(normalized[range]), startsText: startsText && range.lowerBound == 0, budget, &encoding)
      }
    }
  }

  /// A stretch without any added token.
  private func encodeWords(
    _ text: [UInt8], startsText: Bool, _ budget: MatchBudget, _ encoding: inout Encoding
  ) throws(TokenizerError) {
    if text.isEmpty { return }
    var words = Words(bytes: text, words: [0..<text.count], startsText: startsText)
    for (index, step) in preTokenizers.enumerated() {
      step(&words, keepRawBytes: wordsAreRawBytes && index == preTokenizers.count - 1, budget)
    }
    for expression in expressions { try expression.requireFastEnough() }
    try words.bytes.withUnsafeBufferPointer { bytes throws(TokenizerError) in
      for range in words.words {
        if let boundary = model.boundary, !wordsAreRawBytes, range.count > WordCache.longestWord / 4 {
          var start = range.lowerBound
          while start < range.upperBound {
            let end = start + boundary.pieceEnd(in: bytes[bytes: start..<range.upperBound], from: 0)
            try encodeWord(bytes[bytes: start..<end], &encoding)
            start = end
          }
        } else {
          try encodeWord(bytes[bytes: range], &encoding)
        }
      }
    }
  }

  private func encodeWord(_ word: Bytes, _ encoding: inout Encoding) throws(TokenizerError) {
    let alphabet: BPEModel.Alphabet = wordsAreRawBytes ? .rawBytes : .text
    guard !word.isEmpty, word.count <= WordCache.longestWord else {
      return try model.encode(word, as: alphabet, scratch: &encoding.scratch, to: &encoding.ids)
    }
    let hash = hash(word)
    if encoding.cache.append(word, hash: hash, to: &encoding.ids) { return }
    let start = encoding.ids.count
    try model.encode(word, as: alphabet, scratch: &encoding.scratch, to: &encoding.ids)
    encoding.cache.insert(word, hash: hash, ids: encoding.ids[start...])
  }
}

/// What one encode call works with.
struct Encoding {
  var ids: [Int32] = []
  var cache = WordCache()
  var scratch = BPEScratch()
}

/// Hands every concurrent encode call its own cache and keeps the caches for later calls.
final class EncodingPool: Sendable {
  private let free = Mutex<[Encoding]>([])

  func take() -> Encoding { free.withLock { $0.popLast() } ?? Encoding() }
  func give(_ encoding: Encoding) { free.withLock { $0.append(encoding) } }
}
