/// A token matched in the text itself, before any splitting (`added_tokens` in tokenizer.json).
struct AddedToken: Sendable {
  var id: Int32
  var content: [UInt8]
  var special: Bool
  var singleWord = false
  var stripsLeft = false
  var stripsRight = false
  /// Looked for in normalized text, as its own normalized form.
  var normalized = false
}

/// One of the two sets of added tokens: those looked for in the text as given, and those looked for after
/// normalization.
struct AddedTokenMatcher: Sendable {
  private var tokens: [AddedToken] = []
  private var startsToken = [Bool](repeating: false, count: 256)
  // A trie: (node << 8 | byte) -> node, and the token that ends at a node.
  private var children: [UInt32: UInt32] = [:]
  private var ends: [Int] = [-1]

  var isEmpty: Bool { tokens.isEmpty }

  /// The first token with a given form wins.
  mutating func insert(_ token: AddedToken, form: [UInt8]) {
    guard let first = form.first else { return }
    startsToken[Int(first)] = true
    var node: UInt32 = 0
    for byte in form {
      let edge = node << 8 | UInt32(byte)
      if let child = children[edge] {
        node = child
      } else {
        node = UInt32(ends.count)
        ends.append(-1)
        children[edge] = node
      }
    }
    if ends[Int(node)] < 0 {
      ends[Int(node)] = tokens.count
      tokens.append(token)
    }
  }

  /// Text cut at the added tokens.
  enum Segment {
    case text(Range<Int>)
    case token(Int32)
  }

  /// Segments in order, covering `text` but for the spaces that tokens strip. Leftmost, then longest match; a match
  /// refused for `singleWord` is passed over whole.
  func segments(of text: Bytes) -> [Segment] {
    var segments: [Segment] = []
    var done = 0
    var index = 0
    while !tokens.isEmpty, index < text.count {
      guard startsToken[Int(text[index])], let match = longestMatch(text, index) else {
        index += 1
        continue
      }
      let token = tokens[match.token]
      var start = index
      var end = match.end
      index = end
      if token.singleWord, isWord(text, endingAt: start) || isWord(text, startingAt: end) { continue }
      // Spaces may already belong to the token before.
      if token.stripsLeft { start = max(spacesStart(in: text, before: start), done) }
      if token.stripsRight { end = spacesEnd(in: text, from: end) }
      if done < start { segments.append(.text(done..<start)) }
      segments.append(.token(token.id))
      done = end
    }
    if done < text.count { segments.append(.text(done..<text.count)) }
    return segments
  }

  private func longestMatch(_ text: Bytes, _ start: Int) -> (token: Int, end: Int)? {
    var best: (token: Int, end: Int)?
    var node: UInt32 = 0
    var index = start
    while index < text.count, let child = children[node << 8 | UInt32(text[index])] {
      node = child
      index += 1
      if ends[Int(node)] >= 0 { best = (ends[Int(node)], index) }
    }
    return best
  }

  private func isWord(_ text: Bytes, endingAt index: Int) -> Bool {
    index > 0 && CharacterClasses.of(text.scalar(at: text.scalarStart(before: index)).value).contains(.word)
  }

  private func isWord(_ text: Bytes, startingAt index: Int) -> Bool {
    index < text.count && CharacterClasses.of(text.scalar(at: index).value).contains(.word)
  }
}
