extension Tokenizer {
  /// The text of `ids`. Ids outside the vocabulary are left out, as Hugging Face does; bytes that are not UTF-8 become
  /// U+FFFD.
  package func decode(_ ids: [Int32], skipSpecialTokens: Bool = false) -> String {
    let pieces = ids.compactMap { id -> [UInt8]? in
      guard tokens.indices.contains(Int(id)), !(skipSpecialTokens && isSpecial[Int(id)]) else { return nil }
      return tokens[Int(id)]
    }
    let budget = MatchBudget(bytes: pieces.reduce(0) { $0 + $1.count })
    let text =
      if let decoders {
        Array(decoders.reduce(pieces) { $1($0, budget) }.joined())
      } else {
        Array(pieces.joined(separator: [0x20]))
      }
    return String(decoding: text, as: UTF8.self)
  }

  /// A decoder that takes ids one at a time.
  package func makeStreamDecoder(skipSpecialTokens: Bool = true) -> StreamDecoder {
    StreamDecoder(tokenizer: self, skipSpecialTokens: skipSpecialTokens)
  }
}
