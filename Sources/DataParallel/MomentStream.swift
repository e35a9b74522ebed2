import Collectives
import Tensors

/// AdamW's moments on their way between the ranks that hold them and the files of rank 0, a bucket at a time: no rank
/// ever holds all of them.
///
/// The order is that of the arena, first all first moments, then all second ones, whoever holds them. So what is written
/// does not depend on the number of ranks.
package struct MomentStream {
  private let communicator: Communicator
  private let plan: ShardPlan
  private let optimizer: AdamWOptimizer
  /// Whether each rank holds its slices alone, or every rank holds all.
  private let isSharded: Bool

  package init(_ optimizer: AdamWOptimizer, _ reducer: GradientReducer) {
    communicator = reducer.communicator
    plan = reducer.plan
    self.optimizer = optimizer
    isSharded = reducer.result == .ownSlices && communicator.worldSize > 1
  }

  /// Tells a rank what to send next: a bucket of a moment, or that there is nothing more.
  private struct Request {
    var moment: Int64
    var bucket: Int64
    static let end = Request(moment: -1, bucket: -1)
  }

  // MARK: - To rank 0

  /// Runs `body` on rank 0, which may call `read` meanwhile; the other ranks answer it until `body` is over, however it
  /// ends. A collective call.
  package func serving(_ body: () throws -> Void) throws {
    guard isSharded else { return communicator.isRoot ? try body() : () }
    guard communicator.isRoot else { return try serve() }
    let result = Swift.Result { try body() }
    // Whatever went wrong here, nobody must be left waiting.
    for rank in 1..<communicator.worldSize { try send(.end, to: rank) }
    try result.get()
  }

  /// Calls `body` with all values of all moments, in order. Only on rank 0, inside `serving`.
  package func read(_ body: (UnsafeBufferPointer<Float>) throws -> Void) throws {
    let scratch = AlignedBuffer<Float>(count: isSharded ? min(plan.bucketValues, plan.valueCount) : 0)
    for moment in AdamWOptimizer.Moment.allCases {
      for bucket in 0..<plan.bucketCount {
        let range = plan.bucket(bucket)
        guard isSharded else {
          try body(UnsafeBufferPointer(optimizer.moments(moment, of: range)))
          continue
        }
        let values = UnsafeMutableBufferPointer(start: scratch.pointer, count: range.count)
        try collect(moment, bucket, into: values)
        try body(UnsafeBufferPointer(values))
      }
    }
  }

  private func collect(
    _ moment: AdamWOptimizer.Moment, _ bucket: Int, into values: UnsafeMutableBufferPointer<Float>
  ) throws(MPIError) {
    let first = plan.bucket(bucket).lowerBound
    let slices = (0..<communicator.worldSize).map { plan.slice(bucket, of: $0) }
    let others = slices.indices.filter { $0 != communicator.rank && !slices[$0].isEmpty }
    // All are asked before the first answers: they send at the same time.
    for rank in others { try send(Request(moment: Int64(moment.rawValue), bucket: Int64(bucket)), to: rank) }
    let own = slices[communicator.rank]
    for (index, value) in zip(own, optimizer.moments(moment, of: own)) { values[index - first] = value }
    for rank in others {
      let place = values[slices[rank].lowerBound - first..<slices[rank].upperBound - first]
      try communicator.receive(UnsafeMutableRawBufferPointer(.init(rebasing: place)), from: rank)
    }
  }

  private func serve() throws(MPIError) {
    while true {
      var request = Request.end
      try receive(&request)
      guard let moment = AdamWOptimizer.Moment(rawValue: Int(request.moment)) else { return }
      let values = optimizer.moments(moment, of: plan.slice(Int(request.bucket), of: communicator.rank))
      try communicator.send(UnsafeRawBufferPointer(values), to: 0)
    }
  }

  private func send(_ request: Request, to rank: Int) throws(MPIError) {
    var request = request
    var failure: MPIError?
    withUnsafeBytes(of: &request) { bytes in
      do throws(MPIError) { try communicator.send(bytes, to: rank) } catch { failure = error }
    }
    if let failure { throw failure }
  }

  private func receive(_ request: inout Request) throws(MPIError) {
    var failure: MPIError?
    withUnsafeMutableBytes(of: &request) { bytes in
      do throws(MPIError) { try communicator.receive(bytes, from: 0) } catch { failure = error }
    }
    if let failure { throw failure }
  }

  // MARK: - From rank 0

  /// Fills the moments of all ranks: rank 0 is asked for the values of a range of the arena at a time, in order. A
  /// collective call; when `source` throws on rank 0, the others are still waiting, and the job must end.
  package func fill(
    from source: (AdamWOptimizer.Moment, Range<Int>, UnsafeMutableBufferPointer<Float>) throws -> Void
  ) throws {
    let scratch = AlignedBuffer<Float>(count: isSharded && communicator.isRoot ? plan.bucketValues : 0)
    for moment in AdamWOptimizer.Moment.allCases {
      for bucket in 0..<plan.bucketCount {
        let range = plan.bucket(bucket)
        guard isSharded else {
          let values = optimizer.moments(moment, of: range)
          if communicator.isRoot { try source(moment, range, values) }
          try communicator.broadcast(UnsafeMutableRawBufferPointer(values))
          continue
        }
        let own = plan.slice(bucket, of: communicator.rank)
        guard communicator.isRoot else {
          if own.isEmpty { continue }
          try communicator.receive(UnsafeMutableRawBufferPointer(optimizer.moments(moment, of: own)), from: 0)
          continue
        }
        let values = UnsafeMutableBufferPointer(start: scratch.pointer, count: range.count)
        try source(moment, range, values)
        for rank in 0..<communicator.worldSize {
          let slice = plan.slice(bucket, of: rank)
          let part = UnsafeMutableBufferPointer(
            rebasing: values[slice.lowerBound - range.lowerBound..<slice.upperBound - range.lowerBound])
          if rank == communicator.rank {
            _ = optimizer.moments(moment, of: slice).update(fromContentsOf: part)
          } else if !slice.isEmpty {
            try communicator.send(UnsafeRawBufferPointer(part), to: rank)
          }
        }
      }
    }
  }
}
