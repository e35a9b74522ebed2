import Collectives

/// Exchange through memory that all members, ranks of one node, see.
///
/// A member's segment has two slots that take turns. In a round every member copies a piece of what the others need into
/// its slot, waits for the barrier, and takes from the others' slots. One barrier a round is enough: whoever fills a
/// slot again has passed the barrier of the round between, and nobody reached that before having read this slot.
final class WindowExchange: SliceExchange {
  private let window: SharedWindow
  private let member: Int
  private let memberCount: Int
  private let slotValues: Int
  private var slot = 0

  /// Smallest segment that works: two slots with a cache line for each span and member.
  static func leastBytes(members: Int, spans: Int) -> Int { 2 * 64 * members * spans }

  init(_ window: SharedWindow, of group: RankGroup) {
    self.window = window
    member = group.rank
    memberCount = group.size
    slotValues = window.segmentBytes / (2 * MemoryLayout<Float>.stride)
  }

  func reduceScatter(_ sums: PartialSums, _ slices: [Range<Int>], into arena: UnsafeMutablePointer<Float>) {
    // A slot holds a piece of each span for each of the others.
    let spans = max(sums.mostSpans, 1)
    let piece = slotValues / (max(memberCount - 1, 1) * spans) / 16 * 16
    let own = slices[member]
    rounds(slices, piece) { done in
      for other in 0..<memberCount where other != member {
        let count = min(piece, slices[other].count - done)
        guard count > 0 else { continue }
        for (index, values) in sums.arenas.enumerated() {
          place(of: member, for: other, piece * spans).advanced(by: index * piece)
            .update(from: values + slices[other].lowerBound + done, count: count)
        }
      }
      window.barrier()
      let count = min(piece, own.count - done)
      guard count > 0 else { return }
      let begin = own.lowerBound + done
      var terms: [(span: PartSpan, values: SliceSum.Term)] = []
      for (source, theirs) in sums.spans.enumerated() {
        for (index, span) in theirs.enumerated() {
          let values =
            source == member
            ? sums.arenas[index] + begin : place(of: source, for: member, piece * spans) + index * piece
          terms.append((span, .fp32(values)))
        }
      }
      SliceSum.add(terms, count: count, into: arena + begin)
    }
  }

  func allGather(_ arena: UnsafeMutablePointer<Float>, _ slices: [Range<Int>]) {
    let piece = slotValues
    rounds(slices, piece) { done in
      func count(_ member: Int) -> Int { max(min(piece, slices[member].count - done), 0) }
      start(of: member).update(
        from: arena + slices[member].lowerBound + min(done, slices[member].count), count: count(member))
      window.barrier()
      for other in 0..<memberCount where other != member && count(other) > 0 {
        (arena + slices[other].lowerBound + done).update(from: start(of: other), count: count(other))
      }
    }
  }

  /// As many rounds as the longest slice needs; all members count the same.
  private func rounds(_ slices: [Range<Int>], _ piece: Int, _ body: (_ done: Int) -> Void) {
    let longest = slices.map(\.count).max() ?? 0
    for done in stride(from: 0, to: longest, by: piece) {
      body(done)
      slot ^= 1
    }
  }

  /// This round's slot of a member.
  private func start(of member: Int) -> UnsafeMutablePointer<Float> {
    window.segment(of: member).assumingMemoryBound(to: Float.self) + slot * slotValues
  }

  /// Where `source` leaves its pieces for `target`.
  private func place(of source: Int, for target: Int, _ pieces: Int) -> UnsafeMutablePointer<Float> {
    start(of: source) + (target < source ? target : target - 1) * pieces
  }
}
