/// Decodes ids as they are generated: text comes out once no later id can change it, and the pieces joined are the
/// decoded whole.
package struct StreamDecoder {
  private let tokenizer: Tokenizer
  private let skipSpecialTokens: Bool
  /// Tokens spell bytes (`<0xAB>`), and a run of them is text only as a whole.
  private let hasByteTokens: Bool
  /// The ids of the last text given out (a decoder may treat the first piece differently), then those not given out.
  private var ids: [Int32] = []
  private var givenIDs = 0
  /// What the given ids decode to.
  private var given = ""

  init(tokenizer: Tokenizer, skipSpecialTokens: Bool) {
    self.tokenizer = tokenizer
    self.skipSpecialTokens = skipSpecialTokens
    hasByteTokens = tokenizer.decoders?.contains { if case .byteFallback = $0 { true } else { false } } ?? false
  }

  /// The text that `id` completes, empty while a character is unfinished.
  package mutating func append(_ id: Int32) -> String {
    guard tokenizer.tokens.indices.contains(Int(id)), !(skipSpecialTokens && tokenizer.isSpecial[Int(id)]) else {
      return ""
    }
    ids.append(id)
    if hasByteTokens, let token = tokenizer.tokens[Int(id)], TokenDecoder.byte(named: token) != nil { return "" }
    let text = tokenizer.decode(ids, skipSpecialTokens: skipSpecialTokens)
    // Ill-formed bytes without end are given out at last: a character spans at most four ids.
    if text.unicodeScalars.last == "\u{FFFD}", ids.count - givenIDs < 64 { return "" }
    let new = String(decoding: text.utf8.dropFirst(given.utf8.count), as: UTF8.self)
    if new.isEmpty { return "" }
    ids.removeFirst(givenIDs)
    givenIDs = ids.count
    given = tokenizer.decode(ids, skipSpecialTokens: skipSpecialTokens)
    return new
  }

  /// The rest, at the end: unfinished characters as U+FFFD.
  package mutating func finish() -> String {
    let text = tokenizer.decode(ids, skipSpecialTokens: skipSpecialTokens)
    defer { (ids, given, givenIDs) = ([], "", 0) }
    return String(decoding: text.utf8.dropFirst(given.utf8.count), as: UTF8.self)
  }
}
