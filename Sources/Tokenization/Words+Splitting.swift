extension Words {
  /// Cuts every word into the matches of a pattern that covers all text.
  mutating func split(_ forEachPiece: (Bytes, (Range<Int>) -> Void) -> Void) {
    var pieces: [Range<Int>] = []
    pieces.reserveCapacity(words.count + bytes.count / 4)
    bytes.withUnsafeBufferPointer { bytes in
      for word in words {
        forEachPiece(bytes[bytes: word]) {
          pieces.append(word.lowerBound + $0.lowerBound..<word.lowerBound + $0.upperBound)
        }
      }
    }
    words = pieces
  }

  /// Cuts every word at the matches of a pattern, which are then treated as `behavior` says. `invert` swaps matches and
  /// the rest.
  mutating func split(
    _ forEachMatch: (Bytes, (Range<Int>) -> Void) -> Void, _ behavior: SplitBehavior, invert: Bool
  ) {
    var pieces: [Range<Int>] = []
    pieces.reserveCapacity(words.count)
    var parts: [(range: Range<Int>, isMatch: Bool)] = []
    bytes.withUnsafeBufferPointer { bytes in
      for word in words {
        parts.removeAll(keepingCapacity: true)
        var end = word.lowerBound
        forEachMatch(bytes[bytes: word]) { match in
          let start = word.lowerBound + match.lowerBound
          if start > end { parts.append((end..<start, invert)) }
          end = word.lowerBound + match.upperBound
          parts.append((start..<end, !invert))
        }
        if end < word.upperBound { parts.append((end..<word.upperBound, invert)) }
        Self.join(parts, behavior, &pieces)
      }
    }
    if pieces.first?.lowerBound != words.first?.lowerBound { startsText = false }
    words = pieces
  }

  /// Appends the words that `parts`, in order and covering one word, become.
  private static func join(
    _ parts: [(range: Range<Int>, isMatch: Bool)], _ behavior: SplitBehavior, _ pieces: inout [Range<Int>]
  ) {
    let first = pieces.count
    switch behavior {
    case .isolated: pieces.append(contentsOf: parts.lazy.map(\.range))
    case .removed: pieces.append(contentsOf: parts.lazy.filter { !$0.isMatch }.map(\.range))
    case .contiguous:
      var previous: Bool?
      for part in parts {
        // The first part follows something that is not a match, of which there is nothing to extend.
        if pieces.count > first, part.isMatch == previous ?? false {
          pieces[pieces.count - 1] = pieces[pieces.count - 1].lowerBound..<part.range.upperBound
        } else {
          pieces.append(part.range)
        }
        previous = part.isMatch
      }
    case .mergedWithPrevious:
      var previous = false
      for part in parts {
        if part.isMatch, !previous, pieces.count > first {
          pieces[pieces.count - 1] = pieces[pieces.count - 1].lowerBound..<part.range.upperBound
        } else {
          pieces.append(part.range)
        }
        previous = part.isMatch
      }
    case .mergedWithNext:
      var previous = false
      for part in parts.reversed() {
        if part.isMatch, !previous, pieces.count > first {
          pieces[pieces.count - 1] = part.range.lowerBound..<pieces[pieces.count - 1].upperBound
        } else {
          pieces.append(part.range)
        }
        previous = part.isMatch
      }
      pieces[first...].reverse()
    }
    // Empty matches leave empty pieces, which no later step sees.
    if pieces[first...].contains(where: \.isEmpty) {
      pieces.replaceSubrange(first..., with: pieces[first...].filter { !$0.isEmpty })
    }
  }

  /// Replaces each word's bytes.
  mutating func rewrite(_ body: (Bytes) -> [UInt8]) {
    var rewritten: [UInt8] = []
    rewritten.reserveCapacity(bytes.count * 2)
    bytes.withUnsafeBufferPointer { bytes in
      for index in words.indices {
        let start = rewritten.count
        rewritten.append(contentsOf: body(bytes[bytes: words[index]]))
        words[index] = start..<rewritten.count
      }
    }
    bytes = rewritten
  }

  /// Puts `prefix` before the words for which `isWanted` (index, word) says so.
  mutating func prepend(_ prefix: [UInt8], where isWanted: (Int, Bytes) -> Bool) {
    let wanted = bytes.withUnsafeBufferPointer { bytes in
      words.indices.map { isWanted($0, bytes[bytes: words[$0]]) }
    }
    guard wanted.contains(true) else { return }
    var index = 0
    rewrite { word in
      defer { index += 1 }
      return wanted[index] ? prefix + word : Array(word)
    }
  }
}
