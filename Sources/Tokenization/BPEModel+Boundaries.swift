extension BPEModel {
  /// Where text without a pre-tokenizer may be cut so that pieces can be cached, without changing the ids: before a
  /// word mark (`▁`) whose preceding character no merge joins to it. SentencePiece-style models hardly have such
  /// merges.
  struct Boundary: Sendable {
    let mark: [UInt8]
    /// Last characters of left sides whose right side starts with the mark.
    let crossing: Set<UInt32>

    /// Nil when the vocabulary lacks the mark or words are looked up whole.
    init?(mark: [UInt8], vocabulary: ByteTable, tokens: [[UInt8]?], merges: [(left: Int32, right: Int32, id: Int32)]) {
      guard vocabulary[mark] != nil else { return nil }
      self.mark = mark
      var crossing: Set<UInt32> = []
      for merge in merges {
        guard let left = tokens[Int(merge.left)], let right = tokens[Int(merge.right)], right.starts(with: mark) else {
          continue
        }
        left.withUnsafeBufferPointer { left in
          if !left.isEmpty { crossing.insert(left.scalar(at: left.scalarStart(before: left.count)).value) }
        }
      }
      // Runs of marks are one word.
      mark.withUnsafeBufferPointer { _ = crossing.insert($0.scalar(at: 0).value) }
      self.crossing = crossing
    }

    /// The end of the piece of `text` that starts at `start`.
    func pieceEnd(in text: Bytes, from start: Int) -> Int {
      var index = start + 1
      while index + mark.count <= text.count {
        if text[index] == mark[0], (1..<mark.count).allSatisfy({ text[index + $0] == mark[$0] }),
          !crossing.contains(text.scalar(at: text.scalarStart(before: index)).value)
        {
          return index
        }
        index += 1
      }
      return text.count
    }
  }
}
