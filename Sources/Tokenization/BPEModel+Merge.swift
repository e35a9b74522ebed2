extension BPEModel {
  /// Applies the merges to `scratch.symbols`: always the lowest rank, leftmost first among equals.
  func merge(_ scratch: inout BPEScratch) {
    if scratch.symbols.count < 2 { return }
    if scratch.symbols.count <= 24 { mergeShort(&scratch) } else { mergeLong(&scratch) }
  }

  /// A few symbols: looking at all ranks again after each merge is quicker than keeping a queue.
  private func mergeShort(_ scratch: inout BPEScratch) {
    var count = scratch.symbols.count
    scratch.ranks.removeAll(keepingCapacity: true)
    scratch.joined.removeAll(keepingCapacity: true)
    for index in 0..<count - 1 {
      let entry = merges[scratch.symbols[index], scratch.symbols[index + 1]]
      scratch.ranks.append(entry.rank)
      scratch.joined.append(entry.id)
    }
    scratch.symbols.withUnsafeMutableBufferPointer { symbols in
      scratch.ranks.withUnsafeMutableBufferPointer { ranks in
        scratch.joined.withUnsafeMutableBufferPointer { joined in
          while count > 1 {
            var best = 0
            for index in 1..<max(1, count - 1) where ranks[index] < ranks[best] { best = index }
            if ranks[best] == .max { break }
            symbols[best] = joined[best]
            count -= 1
            for index in best + 1..<max(best + 1, count) {
              symbols[index] = symbols[index + 1]
              ranks[index - 1] = ranks[index]
              joined[index - 1] = joined[index]
            }
            if best > 0 { set(best - 1, symbols, ranks, joined) }
            if best < count - 1 { set(best, symbols, ranks, joined) }
          }
        }
      }
    }
    scratch.symbols.removeLast(scratch.symbols.count - count)
  }

  @inline(__always)
  private func set(
    _ index: Int, _ symbols: UnsafeMutableBufferPointer<Int32>, _ ranks: UnsafeMutableBufferPointer<UInt32>,
    _ joined: UnsafeMutableBufferPointer<Int32>
  ) {
    let entry = merges[symbols[index], symbols[index + 1]]
    ranks[index] = entry.rank
    joined[index] = entry.id
  }

  /// Many symbols: a linked list and a queue of candidate merges, O(n log n).
  private func mergeLong(_ scratch: inout BPEScratch) {
    let count = scratch.symbols.count
    scratch.previous = (0..<count).map { Int32($0 - 1) }
    scratch.next = (0..<count).map { $0 + 1 < count ? Int32($0 + 1) : -1 }
    scratch.queue.removeAll()
    for index in 0..<count - 1 {
      let entry = merges[scratch.symbols[index], scratch.symbols[index + 1]]
      if entry.rank != .max { scratch.queue.push(rank: entry.rank, position: index, id: entry.id) }
    }
    let gone: Int32 = -1
    while let candidate = scratch.queue.pop() {
      let left = candidate.position
      let right = Int(scratch.next[left])
      guard scratch.symbols[left] != gone, right >= 0 else { continue }
      // The pair may have changed since it was queued.
      guard merges[scratch.symbols[left], scratch.symbols[right]].id == candidate.id else { continue }
      scratch.symbols[left] = candidate.id
      scratch.symbols[right] = gone
      let after = scratch.next[right]
      scratch.next[left] = after
      if after >= 0 {
        scratch.previous[Int(after)] = Int32(left)
        let entry = merges[candidate.id, scratch.symbols[Int(after)]]
        if entry.rank != .max { scratch.queue.push(rank: entry.rank, position: left, id: entry.id) }
      }
      let before = Int(scratch.previous[left])
      if before >= 0 {
        let entry = merges[scratch.symbols[before], candidate.id]
        if entry.rank != .max { scratch.queue.push(rank: entry.rank, position: before, id: entry.id) }
      }
    }
    scratch.symbols.removeAll { $0 == gone }
  }
}

/// Candidate merges, lowest rank first, leftmost first among equals: a binary heap.
struct MergeQueue {
  private var keys: [UInt64] = []  // rank, then position
  private var ids: [Int32] = []

  mutating func removeAll() {
    keys.removeAll(keepingCapacity: true)
    ids.removeAll(keepingCapacity: true)
  }

  mutating func push(rank: UInt32, position: Int, id: Int32) {
    keys.append(UInt64(rank) << 32 | UInt64(UInt32(position)))
    ids.append(id)
    var child = keys.count - 1
    while child > 0 {
      let parent = (child - 1) / 2
      if keys[parent] <= keys[child] { return }
      swap(parent, child)
      child = parent
    }
  }

  mutating func pop() -> (position: Int, id: Int32)? {
    guard let key = keys.first, let id = ids.first else { return nil }
    swap(0, keys.count - 1)
    keys.removeLast()
    ids.removeLast()
    var parent = 0
    while true {
      var child = 2 * parent + 1
      if child >= keys.count { break }
      if child + 1 < keys.count, keys[child + 1] < keys[child] { child += 1 }
      if keys[parent] <= keys[child] { break }
      swap(parent, child)
      parent = child
    }
    return (Int(truncatingIfNeeded: key & 0xFFFF_FFFF), id)
  }

  private mutating func swap(_ a: Int, _ b: Int) {
    keys.swapAt(a, b)
    ids.swapAt(a, b)
  }
}
