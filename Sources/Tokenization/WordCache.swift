/// Ids of words seen before. Not shared between threads: each encode call borrows one (see `EncodingPool`).
struct WordCache {
  private struct Entry {
    var hash: UInt64
    var key: UInt32
    var ids: UInt32
    var keyCount: UInt16  // 0 when free
    var idCount: UInt16
  }

  private var entries: [Entry] = []
  private var keys: [UInt8] = []
  private var ids: [Int32] = []
  private var count = 0

  /// Longer words are rare and not kept.
  static let longestWord = 128
  private static let capacity = 1 << 17

  /// Appends the ids kept for `word`; false when it is not here.
  mutating func append(_ word: Bytes, hash: UInt64, to output: inout [Int32]) -> Bool {
    guard !entries.isEmpty else { return false }
    var slot = Int(truncatingIfNeeded: hash) & (Self.capacity - 1)
    while entries[slot].keyCount > 0 {
      let entry = entries[slot]
      if entry.hash == hash, Int(entry.keyCount) == word.count {
        let equal = keys.withUnsafeBufferPointer { keys in
          equalBytes(Bytes(rebasing: keys[Int(entry.key)..<Int(entry.key) + word.count]), word)
        }
        if equal {
          output.append(contentsOf: ids[Int(entry.ids)..<Int(entry.ids) + Int(entry.idCount)])
          return true
        }
      }
      slot = (slot + 1) & (Self.capacity - 1)
    }
    return false
  }

  mutating func insert(_ word: Bytes, hash: UInt64, ids new: ArraySlice<Int32>) {
    if count * 2 >= Self.capacity { self = WordCache() }
    if entries.isEmpty {
      entries = Array(repeating: Entry(hash: 0, key: 0, ids: 0, keyCount: 0, idCount: 0), count: Self.capacity)
    }
    var slot = Int(truncatingIfNeeded: hash) & (Self.capacity - 1)
    while entries[slot].keyCount > 0 { slot = (slot + 1) & (Self.capacity - 1) }
    entries[slot] = Entry(
      hash: hash, key: UInt32(keys.count), ids: UInt32(ids.count), keyCount: UInt16(word.count),
      idCount: UInt16(new.count))
    keys.append(contentsOf: word)
    ids.append(contentsOf: new)
    count += 1
  }
}
