internal import CMPI

/// Some of the ranks with a communicator of their own: what they say to each other mixes with nothing else, so another
/// thread may meanwhile use the job's `Communicator`.
///
/// One thread at a time may call; all members make the same calls in the same order.
package final class RankGroup: @unchecked Sendable {
  /// This rank's place in the group, and the number of members; they are in world order.
  package let rank: Int
  package let size: Int
  let communicator: Communicator
  let handle: OpaquePointer

  package var hostName: String { communicator.hostName }

  /// Bytes to or from another member.
  package struct Message {
    let content: orpo_mpi_message

    package static func send(_ bytes: UnsafeRawBufferPointer, to member: Int) -> Message {
      Message(UnsafeMutableRawPointer(mutating: bytes.baseAddress), bytes.count, member, isSend: true)
    }

    package static func receive(_ bytes: UnsafeMutableRawBufferPointer, from member: Int) -> Message {
      Message(bytes.baseAddress, bytes.count, member, isSend: false)
    }

    private init(_ bytes: UnsafeMutableRawPointer?, _ count: Int, _ member: Int, isSend: Bool) {
      content = orpo_mpi_message(
        bytes: bytes, count: Int64(count), peer: Int32(member), is_send: isSend ? 1 : 0)
    }
  }

  fileprivate init(_ communicator: Communicator, _ handle: OpaquePointer, rank: Int, size: Int) {
    self.communicator = communicator
    self.handle = handle
    self.rank = rank
    self.size = size
  }

  /// Sends and receives all of `messages` at once and waits for them; a message without bytes is none. While it waits,
  /// the thread leaves its core to others.
  package func exchange(_ messages: [Message]) throws(MPIError) {
    let contents = messages.map(\.content).filter { $0.count > 0 }
    guard !contents.isEmpty else { return }
    var exchange: OpaquePointer?
    try communicator.calls { [handle] _, call in
      let code = contents.withUnsafeBufferPointer {
        orpo_mpi_exchange_start(handle, $0.baseAddress, Int32($0.count), &exchange, call)
      }
      return code == ORPO_MPI_SUCCESS ? orpo_mpi_exchange_finish(exchange, call) : code
    }
  }

  /// Every member's bytes on every member, in order. Lengths may differ; meant for little.
  package func allGather(_ bytes: [UInt8]) throws(MPIError) -> [[UInt8]] {
    guard size > 1 else { return [bytes] }
    let counts = try shared(
      withUnsafeBytes(of: Int64(bytes.count)) { Array($0) }, counts: Array(repeating: 8, count: size))
    return try shared(
      bytes, counts: counts.map { bytes in Int(bytes.withUnsafeBytes { $0.loadUnaligned(as: Int64.self) }) })
  }

  /// A text of every member on every member, in order.
  package func allGather(_ text: String) throws(MPIError) -> [String] {
    try allGather(Array(text.utf8)).map { String(decoding: $0, as: UTF8.self) }
  }

  private func shared(_ bytes: [UInt8], counts: [Int]) throws(MPIError) -> [[UInt8]] {
    let all = UnsafeMutableRawBufferPointer.allocate(byteCount: counts.reduce(0, +), alignment: 1)
    defer { all.deallocate() }
    var places: [UnsafeMutableRawBufferPointer] = []
    var end = 0
    for count in counts {
      places.append(UnsafeMutableRawBufferPointer(rebasing: all[end..<end + count]))
      end += count
    }
    places[rank].copyBytes(from: bytes)
    try exchange(
      (0..<size).filter { $0 != rank }.flatMap { member -> [Message] in
        [.send(UnsafeRawBufferPointer(places[rank]), to: member), .receive(places[member], from: member)]
      })
    return places.map { Array($0) }
  }

  /// The smallest value of any member, on all of them.
  package func smallest(_ value: Int) throws(MPIError) -> Int {
    var result = Int64(value)
    try communicator.call("MPI_Allreduce") { [handle] _ in orpo_mpi_group_smallest(handle, &result) }
    return Int(result)
  }
}

extension Communicator {
  /// Divides all ranks into groups: those that give the same `color`, 0 or more, are together. A collective call; groups
  /// last until `finish()`.
  package func group(_ color: Int) throws(MPIError) -> RankGroup {
    var handle: OpaquePointer?
    var rank: Int32 = 0
    var size: Int32 = 0
    try calls { job, call in orpo_mpi_group_create(job, Int32(color), &handle, &rank, &size, call) }
    guard let handle else { preconditionFailure("a group was made without an error and without a group") }
    return RankGroup(self, handle, rank: Int(rank), size: Int(size))
  }
}
