internal import CMPI

extension Communicator {
  /// Copies the root's bytes into every rank's buffer. All ranks pass buffers of the same size.
  package func broadcast(_ bytes: UnsafeMutableRawBufferPointer, root: Int = 0) throws(MPIError) {
    precondition(root >= 0 && root < worldSize, "there is no rank \(root) in a world of \(worldSize)")
    guard worldSize > 1, bytes.count > 0, let start = bytes.baseAddress else { return }
    try call("MPI_Bcast") { orpo_mpi_broadcast($0, start, Int64(bytes.count), Int32(root)) }
  }

  /// Replaces `bytes` on every rank by the root's, whose length the others need not know.
  package func broadcast(_ bytes: inout [UInt8], root: Int = 0) throws(MPIError) {
    precondition(root >= 0 && root < worldSize, "there is no rank \(root) in a world of \(worldSize)")
    guard worldSize > 1 else { return }
    var count = Int64(bytes.count)
    try call("MPI_Bcast") { job in
      withUnsafeMutableBytes(of: &count) { orpo_mpi_broadcast(job, $0.baseAddress, Int64($0.count), Int32(root)) }
    }
    var copy = rank == root ? bytes : [UInt8](repeating: 0, count: Int(count))
    try call("MPI_Bcast") { job in
      copy.withUnsafeMutableBytes { orpo_mpi_broadcast(job, $0.baseAddress, count, Int32(root)) }
    }
    bytes = copy
  }

  /// Every rank's bytes on the root, in rank order; `nil` on the others. Lengths may differ.
  package func gather(_ bytes: [UInt8], root: Int = 0) throws(MPIError) -> [[UInt8]]? {
    precondition(root >= 0 && root < worldSize, "there is no rank \(root) in a world of \(worldSize)")
    let counts = try allGather(bytes.count)
    guard rank == root else {
      try call("MPI_Send") { job in
        bytes.withUnsafeBytes { orpo_mpi_send(job, $0.baseAddress, Int64($0.count), Int32(root)) }
      }
      return nil
    }
    var all: [[UInt8]] = []
    for (source, count) in counts.enumerated() {
      var part = bytes
      if source != rank {
        part = [UInt8](repeating: 0, count: count)
        try call("MPI_Recv") { job in
          part.withUnsafeMutableBytes { orpo_mpi_receive(job, $0.baseAddress, Int64($0.count), Int32(source)) }
        }
      }
      all.append(part)
    }
    return all
  }

  /// Sends to one rank, which receives as many bytes; blocks at most until then.
  package func send(_ bytes: UnsafeRawBufferPointer, to rank: Int) throws(MPIError) {
    try call("MPI_Send") { orpo_mpi_send($0, bytes.baseAddress, Int64(bytes.count), Int32(rank)) }
  }

  /// Waits for as many bytes from one rank; messages of two ranks keep their order.
  package func receive(_ bytes: UnsafeMutableRawBufferPointer, from rank: Int) throws(MPIError) {
    try call("MPI_Recv") { orpo_mpi_receive($0, bytes.baseAddress, Int64(bytes.count), Int32(rank)) }
  }

  /// Every rank's bytes on every rank, in rank order. Lengths may differ.
  package func allGather(_ bytes: [UInt8]) throws(MPIError) -> [[UInt8]] {
    guard worldSize > 1 else { return [bytes] }
    let counts = try allGather(bytes.count)
    var joined = try gather(bytes)?.flatMap { $0 } ?? [UInt8](repeating: 0, count: counts.reduce(0, +))
    try call("MPI_Bcast") { job in
      joined.withUnsafeMutableBytes { orpo_mpi_broadcast(job, $0.baseAddress, Int64($0.count), 0) }
    }
    var all: [[UInt8]] = []
    var start = 0
    for count in counts {
      all.append(Array(joined[start..<start + count]))
      start += count
    }
    return all
  }

  /// One integer of every rank on every rank, in rank order.
  package func allGather(_ value: Int) throws(MPIError) -> [Int] {
    guard worldSize > 1 else { return [value] }
    var values = [Int64](repeating: 0, count: worldSize)
    try call("MPI_Allgather") { job in
      values.withUnsafeMutableBufferPointer { orpo_mpi_all_gather_int64(job, Int64(value), $0.baseAddress) }
    }
    return values.map(Int.init)
  }

  /// A text of every rank on every rank, in rank order.
  package func allGather(_ text: String) throws(MPIError) -> [String] {
    try allGather(Array(text.utf8)).map { String(decoding: $0, as: UTF8.self) }
  }
}
