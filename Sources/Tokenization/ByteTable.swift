/// A read-only map from byte strings to ids. Keys are compared byte by byte: composed and decomposed accents stay
/// distinct.
final class ByteTable: @unchecked Sendable {  // Never written after init.
  private let slots: UnsafeMutablePointer<Int32>  // index of an entry, -1 when free
  private let mask: Int
  private let keys: [UInt8]
  private let starts: [UInt32]  // entry -> first byte in keys; one more than entries
  private let ids: [Int32]

  /// A key given twice keeps the last id.
  init(_ entries: [(key: [UInt8], id: Int32)]) {
    var capacity = 16
    while capacity < entries.count * 2 { capacity *= 2 }
    let mask = capacity - 1
    let slots = UnsafeMutablePointer<Int32>.allocate(capacity: capacity)
    slots.initialize(repeating: -1, count: capacity)
    var keys: [UInt8] = []
    var starts: [UInt32] = [0]
    var ids: [Int32] = []
    starts.reserveCapacity(entries.count + 1)
    ids.reserveCapacity(entries.count)
    for (key, id) in entries {
      var slot = Int(truncatingIfNeeded: key.withUnsafeBufferPointer(hash)) & mask
      while slots[slot] >= 0,
        !keys[Int(starts[Int(slots[slot])])..<Int(starts[Int(slots[slot]) + 1])].elementsEqual(key)
      {
        slot = (slot + 1) & mask
      }
      if slots[slot] >= 0 {
        ids[Int(slots[slot])] = id
        continue
      }
      slots[slot] = Int32(ids.count)
      keys.append(contentsOf: key)
      starts.append(UInt32(keys.count))
      ids.append(id)
    }
    self.mask = mask
    self.slots = slots
    self.keys = keys
    self.starts = starts
    self.ids = ids
  }

  deinit { slots.deallocate() }

  subscript(key: Bytes) -> Int32? {
    var slot = Int(truncatingIfNeeded: hash(key)) & mask
    while slots[slot] >= 0 {
      let entry = Int(slots[slot])
      if matches(entry, key) { return ids[entry] }
      slot = (slot + 1) & mask
    }
    return nil
  }

  subscript(key: [UInt8]) -> Int32? { key.withUnsafeBufferPointer { self[$0] } }

  private func matches(_ entry: Int, _ key: Bytes) -> Bool {
    let start = Int(starts[entry])
    guard Int(starts[entry + 1]) - start == key.count else { return false }
    return keys.withUnsafeBufferPointer { keys in equalBytes(Bytes(rebasing: keys[start..<start + key.count]), key) }
  }
}

/// Both of the same length.
@inline(__always)
func equalBytes(_ a: Bytes, _ b: Bytes) -> Bool {
  for index in 0..<a.count where a[index] != b[index] { return false }
  return true
}

/// Multiplies eight bytes at a time into the state; good enough for vocabularies and words, which nobody can choose at
/// run time to hurt anything but speed.
@inline(__always)
func hash(_ key: Bytes) -> UInt64 {
  let multiplier: UInt64 = 0x9E37_79B9_7F4A_7C15
  var state = UInt64(truncatingIfNeeded: key.count) &* multiplier
  guard let base = UnsafeRawPointer(key.baseAddress) else { return state }
  var index = 0
  while index + 8 <= key.count {
    state = (state ^ base.loadUnaligned(fromByteOffset: index, as: UInt64.self)) &* multiplier
    state ^= state >> 32
    index += 8
  }
  var rest: UInt64 = 0
  while index < key.count {
    rest = rest << 8 | UInt64(key[index])
    index += 1
  }
  state = (state ^ rest) &* multiplier
  return state ^ state >> 29
}
