extension Tokenizer {
  /// The text of `ids`. Ids outside the vocabulary are left out, as Hugging Face does; bytes that are not UTF-8 become U+FFFD.
  package func decode(_ ids: [Int32], skipSpecialTokens: Bool = false) -> String {
    let pieces = ids.compactMap { id -> [UInt8]? in
      guard tokens.indices.contains(Int(id)), !(skipSpecialTokens && isSpecial[Int(id)]) else { return nil }
      return tokens[Int(id)]
    }
    let text =
      if let decoders {
        Array(decoders.reduce(pieces) { $1($0) }.joined())
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

/// Decodes ids as they are generated: text comes out once it is complete UTF-8, and the pieces joined are the decoded whole.
package struct StreamDecoder {
  private let tokenizer: Tokenizer
  private let skipSpecialTokens: Bool
  /// The ids of the last text given out (a decoder may treat the first piece differently), then those not given out.
  private var ids: [Int32] = []
  private var given = ""
  private var givenCount = 0

  init(tokenizer: Tokenizer, skipSpecialTokens: Bool) {
    self.tokenizer = tokenizer
    self.skipSpecialTokens = skipSpecialTokens
  }

  /// The text that `id` completes, empty while a character is unfinished.
  package mutating func append(_ id: Int32) -> String {
    ids.append(id)
    let text = tokenizer.decode(ids, skipSpecialTokens: skipSpecialTokens)
    // A character may still be under way; four bytes at most, and what follows ill-formed bytes settles them.
    if text.unicodeScalars.last == "\u{FFFD}", ids.count - givenCount < 4 { return "" }
    return give(text)
  }

  /// The rest, at the end: unfinished characters as U+FFFD.
  package mutating func finish() -> String {
    let text = tokenizer.decode(ids, skipSpecialTokens: skipSpecialTokens)
    defer { (ids, given, givenCount) = ([], "", 0) }
    return String(decoding: text.utf8.dropFirst(given.utf8.count), as: UTF8.self)
  }

  private mutating func give(_ text: String) -> String {
    guard text.utf8.starts(with: given.utf8) else { return "" }
    let new = String(decoding: text.utf8.dropFirst(given.utf8.count), as: UTF8.self)
    if new.isEmpty { return "" }
    ids.removeFirst(givenCount)
    givenCount = ids.count
    given = tokenizer.decode(ids, skipSpecialTokens: skipSpecialTokens)
    return new
  }
}
