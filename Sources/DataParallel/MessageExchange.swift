import Collectives
import Tensors

/// Exchange by messages from every member to every other: between nodes, and where there is no shared memory.
///
/// Each member sends every other its slice of what it has and gets as many of its own as there are others: the same
/// volume as a ring, in one message time. Memory for what comes in is taken at the first exchange and kept.
final class MessageExchange: SliceExchange {
  /// Bytes this member has sent so far.
  private(set) var sentBytes = 0
  private let group: RankGroup
  /// What gradients travel as to and from each member.
  private let formats: [WireDType]
  private var incoming = AlignedBuffer<UInt8>(count: 0)
  private var outgoing = AlignedBuffer<UInt16>(count: 0)

  /// - Parameter formats: of each member of the group; two members must agree about each other.
  init(_ group: RankGroup, formats: [WireDType]) {
    precondition(formats.count == group.size)
    self.group = group
    self.formats = formats
  }

  func reduceScatter(
    _ sums: PartialSums, _ slices: [Range<Int>], into arena: UnsafeMutablePointer<Float>
  ) throws(MPIError) {
    let own = slices[group.rank]
    reserve(sums, slices)
    var messages: [RankGroup.Message] = []
    var terms: [(span: PartSpan, values: SliceSum.Term)] = []
    var (received, encoded) = (0, 0)
    for (member, spans) in sums.spans.enumerated() {
      guard member != group.rank else {
        for (span, values) in zip(spans, sums.arenas) { terms.append((span, .fp32(values + own.lowerBound))) }
        continue
      }
      for span in spans {
        let place = UnsafeMutableRawPointer(incoming.pointer + received)
        let bytes: Int
        switch formats[member] {
        case .fp32:
          terms.append((span, .fp32(place.assumingMemoryBound(to: Float.self))))
          bytes = own.count * 4
        case .bf16:
          terms.append((span, .bf16(place.assumingMemoryBound(to: UInt16.self))))
          bytes = own.count * 2
        }
        messages.append(.receive(UnsafeMutableRawBufferPointer(start: place, count: bytes), from: member))
        // Cache lines of their own, also after an odd count.
        received += (bytes + 63) / 64 * 64
      }
      let count = slices[member].count
      for values in sums.arenas.map({ $0 + slices[member].lowerBound }) {
        let bytes: UnsafeRawBufferPointer
        switch formats[member] {
        case .fp32: bytes = UnsafeRawBufferPointer(start: values, count: count * 4)
        case .bf16:
          SliceSum.encode(values, count: count, into: outgoing.pointer + encoded)
          bytes = UnsafeRawBufferPointer(start: outgoing.pointer + encoded, count: count * 2)
          encoded += count
        }
        messages.append(.send(bytes, to: member))
        sentBytes += bytes.count
      }
    }
    try group.exchange(messages)
    SliceSum.add(terms, count: own.count, into: arena + own.lowerBound)
  }

  func allGather(_ arena: UnsafeMutablePointer<Float>, _ slices: [Range<Int>]) throws(MPIError) {
    func bytes(_ member: Int) -> UnsafeMutableRawBufferPointer {
      UnsafeMutableRawBufferPointer(start: arena + slices[member].lowerBound, count: slices[member].count * 4)
    }
    let own = UnsafeRawBufferPointer(bytes(group.rank))
    let others = (0..<group.size).filter { $0 != group.rank }
    try group.exchange(others.flatMap { [.receive(bytes($0), from: $0), .send(own, to: $0)] })
    sentBytes += own.count * others.count
  }

  private func reserve(_ sums: PartialSums, _ slices: [Range<Int>]) {
    let others = sums.spans.enumerated().reduce(0) { $0 + ($1.offset == group.rank ? 0 : $1.element.count) }
    let needed = others * (slices[group.rank].count * 4 + 64)
    if incoming.count < needed { incoming = AlignedBuffer(count: needed) }
    let encoded = sums.arenas.count * zip(slices, formats).reduce(0) { $0 + ($1.1 == .bf16 ? $1.0.count : 0) }
    if outgoing.count < encoded { outgoing = AlignedBuffer(count: encoded) }
  }
}
