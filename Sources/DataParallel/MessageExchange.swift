import Collectives
import Tensors

/// Exchange by messages from every member to every other: between nodes, and where there is no shared memory.
///
/// Each member sends every other its slice and gets as many values of its own as there are other members: the same
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

  func reduceScatter(_ arena: UnsafeMutablePointer<Float>, _ slices: [Range<Int>]) throws(MPIError) {
    let own = slices[group.rank]
    reserve(slices)
    var messages: [RankGroup.Message] = []
    var terms: [SliceSum.Term] = []
    var (received, encoded) = (0, 0)
    for member in 0..<group.size {
      guard member != group.rank else {
        terms.append(.fp32(arena + own.lowerBound))
        continue
      }
      let place = UnsafeMutableRawPointer(incoming.pointer + received)
      let values = arena + slices[member].lowerBound
      let count = slices[member].count
      let outgoingBytes: UnsafeRawBufferPointer
      switch formats[member] {
      case .fp32:
        terms.append(.fp32(place.assumingMemoryBound(to: Float.self)))
        outgoingBytes = UnsafeRawBufferPointer(start: values, count: count * 4)
      case .bf16:
        terms.append(.bf16(place.assumingMemoryBound(to: UInt16.self)))
        SliceSum.encode(values, count: count, into: outgoing.pointer + encoded)
        outgoingBytes = UnsafeRawBufferPointer(start: outgoing.pointer + encoded, count: count * 2)
        encoded += count
      }
      let incomingBytes = own.count * (formats[member] == .fp32 ? 4 : 2)
      messages.append(.receive(UnsafeMutableRawBufferPointer(start: place, count: incomingBytes), from: member))
      messages.append(.send(outgoingBytes, to: member))
      sentBytes += outgoingBytes.count
      // Cache lines of their own, also after an odd count.
      received += (incomingBytes + 63) / 64 * 64
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

  private func reserve(_ slices: [Range<Int>]) {
    let needed = (group.size - 1) * (slices[group.rank].count * 4 + 64)
    if incoming.count < needed { incoming = AlignedBuffer(count: needed) }
    let encoded = zip(slices, formats).reduce(0) { $0 + ($1.1 == .bf16 ? $1.0.count : 0) }
    if outgoing.count < encoded { outgoing = AlignedBuffer(count: encoded) }
  }
}
