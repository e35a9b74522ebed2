/// A fast 64-bit checksum against damaged files (not against forgery), fed piece by piece.
///
/// Words of 8 bytes go round-robin to eight lanes; each lane does `lane = (lane ^ word) * prime; lane ^= lane >> 32`.
/// Every step is a bijection of the lane, so a change within one word always changes the result; anything else goes
/// unnoticed with a probability of about 2^-64. The last stripe is filled with zeros and the length in bytes is mixed
/// in. Runs at memory speed, where a table-driven CRC would take seconds per checkpoint.
package struct StripeHash: Sendable {
  /// How manifests name the algorithm. Another algorithm needs another name.
  package static let name = "stripe64"

  private static let prime: UInt64 = 0x9FB2_1C65_1E98_DF25
  private static let stripe = 64

  private var lanes: [UInt64] = (1...8).map { Self.prime &* ($0 &* 2 &+ 1) }
  private var pending: [UInt8] = []
  private var length: UInt64 = 0

  package init() { pending.reserveCapacity(Self.stripe) }

  package mutating func update(_ bytes: UnsafeRawBufferPointer) {
    length &+= UInt64(bytes.count)
    var rest = bytes[...]
    if !pending.isEmpty {
      let fill = min(Self.stripe - pending.count, rest.count)
      pending.append(contentsOf: rest.prefix(fill))
      rest = rest.dropFirst(fill)
      guard pending.count == Self.stripe else { return }
      pending.withUnsafeBytes { absorb($0) }
      pending.removeAll(keepingCapacity: true)
    }
    let whole = rest.count / Self.stripe * Self.stripe
    absorb(UnsafeRawBufferPointer(rebasing: rest.prefix(whole)))
    pending.append(contentsOf: rest.dropFirst(whole))
  }

  /// The checksum of everything fed so far.
  package func finished() -> UInt64 {
    var copy = self
    if !pending.isEmpty {
      copy.pending += Array(repeating: 0, count: Self.stripe - pending.count)
      copy.pending.withUnsafeBytes { copy.absorb($0) }
    }
    var hash = length &* 0xD6E8_FEB8_6659_FD93
    for lane in copy.lanes { hash = Self.mix(hash, lane) }
    hash = (hash ^ hash >> 32) &* Self.prime
    return hash ^ hash >> 29
  }

  /// `bytes.count` is a multiple of a stripe.
  private mutating func absorb(_ bytes: UnsafeRawBufferPointer) {
    guard let base = bytes.baseAddress else { return }
    var (a, b, c, d) = (lanes[0], lanes[1], lanes[2], lanes[3])
    var (e, f, g, h) = (lanes[4], lanes[5], lanes[6], lanes[7])
    var offset = 0
    while offset < bytes.count {
      let words = base + offset
      a = Self.mix(a, words.loadUnaligned(as: UInt64.self))
      b = Self.mix(b, words.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
      c = Self.mix(c, words.loadUnaligned(fromByteOffset: 16, as: UInt64.self))
      d = Self.mix(d, words.loadUnaligned(fromByteOffset: 24, as: UInt64.self))
      e = Self.mix(e, words.loadUnaligned(fromByteOffset: 32, as: UInt64.self))
      f = Self.mix(f, words.loadUnaligned(fromByteOffset: 40, as: UInt64.self))
      g = Self.mix(g, words.loadUnaligned(fromByteOffset: 48, as: UInt64.self))
      h = Self.mix(h, words.loadUnaligned(fromByteOffset: 56, as: UInt64.self))
      offset &+= Self.stripe
    }
    lanes = [a, b, c, d, e, f, g, h]
  }

  @inline(__always)
  private static func mix(_ lane: UInt64, _ word: UInt64) -> UInt64 {
    let mixed = (lane ^ word) &* prime
    return mixed ^ mixed &>> 32
  }
}
