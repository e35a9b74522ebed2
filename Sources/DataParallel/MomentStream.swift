package import Collectives
import Tensors

/// AdamW's moments on their way between the ranks that hold them and files, a bucket at a time: no rank ever holds all of
/// them.
///
/// The order in rank 0's file is that of the arena, first all first moments, then all second ones, whoever holds them. So
/// what is written does not depend on the number of ranks.
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
  /// - Returns: on rank 0 what `body` returns, nil elsewhere.
  @discardableResult
  package func serving<Value>(_ body: () throws -> Value?) throws -> Value? {
    guard isSharded else { return isRoot ? try body() : nil }
    guard isRoot else {
      try serve()
      return nil
    }
    let result = Swift.Result { try body() }
    // Whatever went wrong here, nobody must be left waiting.
    for rank in 1..<ranks.size { try send(.end, to: rank) }
    return try result.get()
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

  // MARK: - From files

  /// Fills the moments of all ranks, a bucket at a time, from files that several ranks may hold parts of.
  ///
  /// A collective call; when `values` throws on one rank, the others are still waiting, and the job must end.
  /// - Parameters:
  ///   - parts: who can read what, the same on all ranks; ascending, and together the whole arena.
  ///   - values: reads values of the arena that are this rank's to read.
  package func fill(
    from parts: [StoredPart],
    _ values: (AdamWOptimizer.Moment, Range<Int>, UnsafeMutableBufferPointer<Float>) throws -> Void
  ) throws {
    precondition(StoredPart.cover(parts, count: plan.valueCount), "some moments are nowhere or twice")
    let reads = parts.contains { $0.rank == ranks.rank }
    let scratch = AlignedBuffer<Float>(count: reads ? min(plan.bucketValues, plan.valueCount) : 0)
    for moment in AdamWOptimizer.Moment.allCases {
      var first = 0
      for bucket in 0..<plan.bucketCount {
        let range = plan.bucket(bucket)
        while parts[first].range.upperBound <= range.lowerBound { first += 1 }
        var messages: [RankGroup.Message] = []
        for part in parts[first...].prefix(while: { $0.range.lowerBound < range.upperBound }) {
          let piece = part.range.clamped(to: range)
          let read = UnsafeMutableBufferPointer(
            start: scratch.pointer + (piece.lowerBound - range.lowerBound),
            count: part.rank == ranks.rank ? piece.count : 0)
          if part.rank == ranks.rank { try values(moment, piece, read) }
          for owner in part.rank == ranks.rank ? 0..<ranks.size : ranks.rank..<ranks.rank + 1 {
            let wanted = kept(bucket, by: owner).clamped(to: piece)
            if wanted.isEmpty { continue }
            if part.rank != ranks.rank {
              let own = UnsafeMutableRawBufferPointer(source.moments(moment, of: wanted))
              messages.append(.receive(own, from: part.rank))
              continue
            }
            let found = UnsafeBufferPointer(
              rebasing: read[wanted.lowerBound - piece.lowerBound..<wanted.upperBound - piece.lowerBound])
            if owner == ranks.rank {
              _ = source.moments(moment, of: wanted).update(fromContentsOf: found)
            } else {
              messages.append(.send(UnsafeRawBufferPointer(found), to: owner))
            }
          }
        }
        try ranks.exchange(messages)
      }
    }
  }

  /// Values of a bucket whose moments a rank keeps.
  private func kept(_ bucket: Int, by rank: Int) -> Range<Int> {
    isSharded ? plan.slice(bucket, of: rank) : plan.bucket(bucket)
  }
}
