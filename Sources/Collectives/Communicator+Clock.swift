internal import CMPI

extension Communicator {
  /// How far this rank's clock is ahead of rank 0's, in the unit of `now`: half a round trip of the fastest of `rounds`
  /// exchanges is taken for the way back (Cristian's algorithm), so the error is at most half that round trip. A
  /// collective call; 0 on rank 0.
  package func clockOffset(rounds: Int = 16, now: () -> Int64) throws(MPIError) -> Int64 {
    var offset: Int64 = 0
    for peer in 1..<max(worldSize, 1) {
      if isRoot {
        var fastest = Int64.max
        var ahead: Int64 = 0
        for _ in 0..<rounds {
          let sent = now()
          try send(sent, to: peer)
          let theirs = try receiveInteger(from: peer)
          let received = now()
          if received - sent < fastest {
            fastest = received - sent
            ahead = theirs - (sent + (received - sent) / 2)
          }
        }
        try send(ahead, to: peer)
      } else if rank == peer {
        for _ in 0..<rounds {
          _ = try receiveInteger(from: 0)
          try send(now(), to: 0)
        }
        offset = try receiveInteger(from: 0)
      }
    }
    return offset
  }

  private func send(_ value: Int64, to peer: Int) throws(MPIError) {
    var value = value
    try call("MPI_Send") { job in
      withUnsafeBytes(of: &value) { orpo_mpi_send(job, $0.baseAddress, Int64($0.count), Int32(peer)) }
    }
  }

  private func receiveInteger(from peer: Int) throws(MPIError) -> Int64 {
    var value: Int64 = 0
    try call("MPI_Recv") { job in
      withUnsafeMutableBytes(of: &value) { orpo_mpi_receive(job, $0.baseAddress, Int64($0.count), Int32(peer)) }
    }
    return value
  }
}
