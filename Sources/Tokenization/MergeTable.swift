/// The merges of a BPE model: a pair of ids -> its rank (0 merges first) and the id of the joined token.
final class MergeTable: @unchecked Sendable {  // Never written after init.
  struct Entry {
    var pair: UInt64
    var rank: UInt32
    var id: Int32
  }

  private let slots: UnsafeMutablePointer<Entry>
  private let mask: Int
  private static let free = UInt64.max

  /// Ranks are positions in `merges`; a pair given twice keeps the last rank, as in Hugging Face's map.
  init(_ merges: [(left: Int32, right: Int32, id: Int32)]) {
    var capacity = 16
    while capacity < merges.count * 2 { capacity *= 2 }
    mask = capacity - 1
    slots = .allocate(capacity: capacity)
    slots.initialize(repeating: Entry(pair: Self.free, rank: .max, id: -1), count: capacity)
    for (rank, merge) in merges.enumerated() {
      let pair = Self.key(merge.left, merge.right)
      var slot = Self.slot(pair) & mask
      while slots[slot].pair != Self.free, slots[slot].pair != pair { slot = (slot + 1) & mask }
      slots[slot] = Entry(pair: pair, rank: UInt32(rank), id: merge.id)
    }
  }

  deinit { slots.deallocate() }

  /// The merge of two neighbours; rank `.max` when there is none.
  @inline(__always)
  subscript(left: Int32, right: Int32) -> Entry {
    let pair = Self.key(left, right)
    var slot = Self.slot(pair) & mask
    while slots[slot].pair != pair {
      if slots[slot].pair == Self.free { return slots[slot] }
      slot = (slot + 1) & mask
    }
    return slots[slot]
  }

  @inline(__always)
  private static func key(_ left: Int32, _ right: Int32) -> UInt64 {
    UInt64(UInt32(bitPattern: left)) << 32 | UInt64(UInt32(bitPattern: right))
  }

  @inline(__always)
  private static func slot(_ pair: UInt64) -> Int {
    let mixed = pair &* 0x9E37_79B9_7F4A_7C15
    return Int(truncatingIfNeeded: mixed >> 20)
  }
}
