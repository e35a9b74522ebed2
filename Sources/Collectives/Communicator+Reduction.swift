internal import CMPI

extension Communicator {
  /// Replaces the values on every rank by their sum over ranks, in place. Blocks.
  package func allReduce(sum values: UnsafeMutableBufferPointer<Float>) throws(MPIError) {
    try allReduce(values.baseAddress, values.count, ORPO_MPI_FLOAT, ORPO_MPI_SUM)
  }

  /// Replaces the values on every rank by their sum over ranks, in place. Blocks.
  package func allReduce(sum values: UnsafeMutableBufferPointer<Double>) throws(MPIError) {
    try allReduce(values.baseAddress, values.count, ORPO_MPI_DOUBLE, ORPO_MPI_SUM)
  }

  /// Sums over ranks; every rank gets the same bits, whatever algorithm MPI picks: the sum is formed once, on rank 0,
  /// and broadcast. For the few numbers that steer control flow or are logged.
  package func agree(sum values: inout [Double]) throws(MPIError) {
    try agree(&values, ORPO_MPI_SUM)
  }

  /// The largest value of any rank, element by element; the same bits everywhere. NaN has no defined order: send a
  /// flag instead.
  package func agree(max values: inout [Double]) throws(MPIError) {
    try agree(&values, ORPO_MPI_MAX)
  }

  private func allReduce(
    _ start: UnsafeMutableRawPointer?, _ count: Int, _ type: orpo_mpi_type, _ operation: orpo_mpi_operation
  ) throws(MPIError) {
    guard worldSize > 1, count > 0, let start else { return }
    try call("MPI_Allreduce") { orpo_mpi_all_reduce($0, start, Int64(count), type, operation) }
  }

  private func agree(_ values: inout [Double], _ operation: orpo_mpi_operation) throws(MPIError) {
    guard worldSize > 1, !values.isEmpty else { return }
    var copy = values
    let count = Int64(copy.count)
    try call("MPI_Reduce") { job in
      copy.withUnsafeMutableBufferPointer {
        orpo_mpi_reduce(job, $0.baseAddress, count, ORPO_MPI_DOUBLE, operation, 0)
      }
    }
    try call("MPI_Bcast") { job in
      copy.withUnsafeMutableBytes { orpo_mpi_broadcast(job, $0.baseAddress, Int64($0.count), 0) }
    }
    values = copy
  }
}
