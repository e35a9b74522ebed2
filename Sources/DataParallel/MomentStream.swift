package import Collectives
import Tensors

/// AdamW's moments on their way between the ranks that hold them and the files of rank 0, a bucket at a time: no rank
/// ever holds all of them.
///
/// The order is that of the arena, first all first moments, then all second ones, whoever holds them. So what is written
/// does not depend on the number of ranks.
package struct MomentStream {
  private let ranks: RankGroup
  private let plan: ShardPlan
  private let source: any MomentSource
  /// Whether each rank holds its slices alone, or every rank holds all.
  private let isSharded: Bool

  /// - Parameters:
  ///   - source: an optimizer, or a snapshot of one.
  ///   - reducer: says which rank holds which moments.
  ///   - ranks: all ranks, for this alone: whoever streams may be another thread than the one that trains.
  package init(_ source: any MomentSource, _ reducer: GradientReducer, over ranks: RankGroup) {
    self.ranks = ranks
    plan = reducer.plan
    self.source = source
    isSharded = reducer.result == .ownSlices && ranks.size > 1
  }

  private var isRoot: Bool { ranks.rank == 0 }

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
    guard isSharded else { return isRoot ? try body() : () }
    guard isRoot else { return try serve() }
    let result = Swift.Result { try body() }
    // Whatever went wrong here, nobody must be left waiting.
    for rank in 1..<ranks.size { try send(.end, to: rank) }
    try result.get()
  }

  /// Calls `body` with all values of all moments, in order. Only on rank 0, inside `serving`.
  package func read(_ body: (UnsafeBufferPointer<Float>) throws -> Void) throws {
    let scratch = AlignedBuffer<Float>(count: isSharded ? min(plan.bucketValues, plan.valueCount) : 0)
    for moment in AdamWOptimizer.Moment.allCases {
      for bucket in 0..<plan.bucketCount {
        let range = plan.bucket(bucket)
        guard isSharded else {
          try body(UnsafeBufferPointer(source.moments(moment, of: range)))
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
    let slices = (0..<ranks.size).map { plan.slice(bucket, of: $0) }
    let others = slices.indices.filter { $0 != ranks.rank && !slices[$0].isEmpty }
    let own = slices[ranks.rank]
    for (index, value) in zip(own, source.moments(moment, of: own)) { values[index - first] = value }
    // All are asked before the first answers: they send at the same time.
    var request = Request(moment: Int64(moment.rawValue), bucket: Int64(bucket))
    var failure: MPIError?
    withUnsafeBytes(of: &request) { request in
      let messages = others.flatMap { rank -> [RankGroup.Message] in
        let place = values[slices[rank].lowerBound - first..<slices[rank].upperBound - first]
        return [
          .send(request, to: rank), .receive(UnsafeMutableRawBufferPointer(.init(rebasing: place)), from: rank),
        ]
      }
      do throws(MPIError) { try ranks.exchange(messages) } catch { failure = error }
    }
    if let failure { throw failure }
  }

  private func serve() throws(MPIError) {
    while true {
      var request = Request.end
      try receive(&request)
      guard let moment = AdamWOptimizer.Moment(rawValue: Int(request.moment)) else { return }
      let values = source.moments(moment, of: plan.slice(Int(request.bucket), of: ranks.rank))
      try ranks.exchange([.send(UnsafeRawBufferPointer(values), to: 0)])
    }
  }

  private func send(_ request: Request, to rank: Int) throws(MPIError) {
    var request = request
    var failure: MPIError?
    withUnsafeBytes(of: &request) { bytes in
      do throws(MPIError) { try ranks.exchange([.send(bytes, to: rank)]) } catch { failure = error }
    }
    if let failure { throw failure }
  }

  private func receive(_ request: inout Request) throws(MPIError) {
    var failure: MPIError?
    withUnsafeMutableBytes(of: &request) { bytes in
      do throws(MPIError) { try ranks.exchange([.receive(bytes, from: 0)]) } catch { failure = error }
    }
    if let failure { throw failure }
  }

  // MARK: - From rank 0

  /// Fills the moments of all ranks: rank 0 is asked for the values of a range of the arena at a time, in order. A
  /// collective call; when `values` throws on rank 0, the others are still waiting, and the job must end.
  package func fill(
    from values: (AdamWOptimizer.Moment, Range<Int>, UnsafeMutableBufferPointer<Float>) throws -> Void
  ) throws {
    let scratch = AlignedBuffer<Float>(count: isSharded && isRoot ? plan.bucketValues : 0)
    for moment in AdamWOptimizer.Moment.allCases {
      for bucket in 0..<plan.bucketCount {
        let range = plan.bucket(bucket)
        guard isSharded else {
          let own = source.moments(moment, of: range)
          if isRoot { try values(moment, range, own) }
          try broadcast(own)
          continue
        }
        let own = plan.slice(bucket, of: ranks.rank)
        guard isRoot else {
          if own.isEmpty { continue }
          try ranks.exchange([.receive(UnsafeMutableRawBufferPointer(source.moments(moment, of: own)), from: 0)])
          continue
        }
        let bucketValues = UnsafeMutableBufferPointer(start: scratch.pointer, count: range.count)
        try values(moment, range, bucketValues)
        for rank in 0..<ranks.size {
          let slice = plan.slice(bucket, of: rank)
          let part = UnsafeMutableBufferPointer(
            rebasing: bucketValues[slice.lowerBound - range.lowerBound..<slice.upperBound - range.lowerBound])
          if rank == ranks.rank {
            _ = source.moments(moment, of: slice).update(fromContentsOf: part)
          } else if !slice.isEmpty {
            try ranks.exchange([.send(UnsafeRawBufferPointer(part), to: rank)])
          }
        }
      }
    }
  }

  /// Rank 0's values on all ranks.
  private func broadcast(_ values: UnsafeMutableBufferPointer<Float>) throws(MPIError) {
    let bytes = UnsafeMutableRawBufferPointer(values)
    guard isRoot else { return try ranks.exchange([.receive(bytes, from: 0)]) }
    try ranks.exchange((1..<max(ranks.size, 1)).map { .send(UnsafeRawBufferPointer(bytes), to: $0) })
  }
}
