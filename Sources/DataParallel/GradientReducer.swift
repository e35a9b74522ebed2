package import Collectives
package import Kernels
package import Timeline

/// Adds the ranks' gradients up, bucket by bucket, in the order in which backward finishes them.
///
/// The arena is laid out in that order, so it becomes ready from offset 0 upward and a bucket is a contiguous slice.
/// The sum is not divided: the loss weights already carry the counts of the whole step. One step is: `ready(upTo:)`
/// any number of times during the last micro-batch, then `finish()`. A rank without a micro-batch calls `finish()`
/// alone; all ranks sum the same buckets in the same order.
///
/// Where sums are to have the same bits on any number of ranks (`RankMesh.partialSums`), a step consists of parts, and a rank
/// computes its own one after the other: `begin(_:)`, then `beginPart` and, but for the last, `endPart`; `ready(upTo:)` during the last
/// micro-batch of the last part.
///
/// Between `ready(upTo:)` and `finish()` the slices already handed over belong to the reducer: backward must not
/// touch them.
package final class GradientReducer {
  /// What the arena holds after `finish()`.
  package enum Result: Sendable {
    /// The sums in this rank's slices; the rest is scratch. What a sharded optimizer needs.
    case ownSlices
    /// All sums on every rank, with the same bits.
    case everything
  }

  package let gradients: UnsafeMutableBufferPointer<Float>
  package let plan: ShardPlan
  package let result: Result
  /// Of the whole run; complete after `finish()` and `gatherParameters(_:)`.
  package var totals: CommunicationTotals { meter.totals }
  /// Where buckets record their time; nil records nothing. Set between steps only.
  package var timeline: Timeline? {
    get { meter.timeline }
    set { meter.timeline = newValue }
  }

  package let mesh: RankMesh
  private let meter: CommunicationMeter
  /// `nil` where buckets are summed by the thread that hands them over.
  private let thread: BucketThread?
  /// Buckets of this step that are handed over.
  private var launched = 0
  private var announced = 0
  private let sums: PartialSumStack
  private let shares: PartShares

  /// Which parts of this step the ranks have; set by the thread that computes before any bucket is handed over.
  private final class PartShares: @unchecked Sendable {
    var parts: [Range<Int>] = []
    var spans: [[PartSpan]] = []
  }

  /// - Parameters:
  ///   - gradients: the arena, of the same size on all ranks; it must outlive the reducer.
  ///   - bucketBytes: size of a bucket, at least one value.
  ///   - overlaps: sum on a thread of its own while `ready(upTo:)` returns; needs `MPI_THREAD_MULTIPLE`, and is not done
  ///     without it nor where there is one rank.
  ///   - arenas: partial sums of this rank that are held at a time; `RankMesh.partialSums` unless given.
  package init(
    mesh: RankMesh, gradients: UnsafeMutableBufferPointer<Float>, result: Result = .everything,
    bucketBytes: Int = 16 << 20, overlaps: Bool = false, arenas: Int? = nil
  ) {
    self.mesh = mesh
    self.gradients = gradients
    self.result = result
    // The norm is summed block by block, and a block must not be cut differently on other ranks.
    let plan = ShardPlan(
      valueCount: gradients.count, bucketValues: max(bucketBytes / MemoryLayout<Float>.stride, 1), grid: mesh.grid,
      grain: mesh.partialSums == nil ? 16 : SumOfSquares.block)
    self.plan = plan
    let meter = CommunicationMeter()
    self.meter = meter
    let communicator = mesh.communicator
    let sums = PartialSumStack(gradients, arenas: arenas ?? mesh.partialSums ?? 1)
    self.sums = sums
    let shares = PartShares()
    self.shares = shares
    guard overlaps, communicator.worldSize > 1, communicator.threadLevel == .multiple else {
      thread = nil
      return
    }
    nonisolated(unsafe) let arena = gradients
    thread = BucketThread { bucket throws(MPIError) in
      try Self.reduce(bucket, arena, plan, mesh, sums, shares, result, meter, thread: 1)
    }
  }

  deinit { thread?.stop() }

  /// Whether buckets are summed while backward goes on.
  package var overlaps: Bool { thread != nil }

  package var communicator: Communicator { mesh.communicator }

  /// Memory beyond the gradients' arena.
  package var partialSumBytes: Int { sums.bytes }

  /// Norm of this rank's own gradients of the step before they were summed over ranks (of partial sums where it had
  /// several), which tells whose gradients are to blame for a norm that cannot be; after `finish()`. 0 with one rank.
  package var ownNorm: Double { meter.ownSquares.squareRoot() }

  /// Which parts of the step that begins each rank computes: consecutive ones, ascending from rank to rank.
  package func begin(_ shares: [Range<Int>]) {
    meter.ownSquares = 0
    guard mesh.partialSums != nil, self.shares.parts != shares else { return }
    self.shares.parts = shares
    self.shares.spans = shares.map { PartSpan.covering($0) }
  }

  /// Where the gradients of a part are to be summed; what lies there is the caller's to clear.
  package func beginPart(_ part: Int) -> UnsafeMutablePointer<Float> { sums.begin(part) }

  /// The part begun last is complete, and another one follows.
  package func endPart(_ pool: ThreadPool) { sums.end(pool) }

  /// Backward will not touch the gradients below `offset` again in this step: every bucket that is complete thereby
  /// is summed over ranks.
  ///
  /// - Precondition: offsets of one step do not decrease.
  package func ready(upTo offset: Int) throws(MPIError) {
    precondition(
      offset >= announced && offset <= gradients.count,
      "gradients are ready up to \(offset) after \(announced) of \(gradients.count)")
    announced = offset
    try launch(plan.bucketsComplete(below: offset))
  }

  /// Sums what is left and waits. Afterwards the arena holds what `result` says, and a new step may begin.
  /// - Throws: also what went wrong on the communication thread since the step began.
  package func finish() throws(MPIError) {
    let began = CommunicationTotals.now()
    try launch(plan.bucketCount)
    try thread?.finish(plan.bucketCount)
    launched = 0
    announced = 0
    sums.reset()
    guard mesh.communicator.worldSize > 1 else { return }
    let seconds = CommunicationTotals.now() - began
    meter.waiting.tailSeconds += seconds
    // Without a thread, `launch` has counted it.
    if thread != nil { meter.waiting.exposedSeconds += seconds }
  }

  /// Gives every rank the whole of `parameters`, an arena of the gradients' layout of which each rank has updated its own
  /// slices. A collective call, after `finish()`. Where every rank has all sums there is nothing to give.
  package func gatherParameters(_ parameters: UnsafeMutableBufferPointer<Float>) throws(MPIError) {
    precondition(parameters.count == gradients.count, "\(parameters.count) parameters, \(gradients.count) gradients")
    guard result == .ownSlices, mesh.communicator.worldSize > 1, let start = parameters.baseAddress else { return }
    let began = CommunicationTotals.now()
    for bucket in 0..<plan.bucketCount { try mesh.allGather(start, plan, bucket: bucket) }
    meter.waiting.exposedSeconds += CommunicationTotals.now() - began
  }

  private func launch(_ count: Int) throws(MPIError) {
    guard mesh.communicator.worldSize > 1 || mesh.partialSums != nil, launched < count else { return }
    if let thread {
      thread.start(below: count)
    } else {
      let began = CommunicationTotals.now()
      for bucket in launched..<count {
        try Self.reduce(bucket, gradients, plan, mesh, sums, shares, result, meter, thread: 0)
      }
      if mesh.communicator.worldSize > 1 { meter.waiting.exposedSeconds += CommunicationTotals.now() - began }
    }
    launched = count
  }

  private static func reduce(
    _ bucket: Int, _ gradients: UnsafeMutableBufferPointer<Float>, _ plan: ShardPlan, _ mesh: RankMesh,
    _ sums: PartialSumStack, _ shares: PartShares, _ result: Result, _ meter: CommunicationMeter, thread: Int
  ) throws(MPIError) {
    guard let start = gradients.baseAddress else { return }
    let began = CommunicationTotals.now()
    let timeline = meter.timeline
    let begin = timeline == nil ? 0 : Timeline.now()
    defer { timeline?.record("reduce bucket", bucket, thread: thread, begin: begin, end: Timeline.now()) }
    let range = plan.bucket(bucket)
    if mesh.partialSums == nil {
      meter.ownSquares += SumOfSquares.of(
        UnsafeBufferPointer(start: start + range.lowerBound, count: range.count))
      try mesh.reduceScatter(start, plan, bucket: bucket)
    } else {
      let left = sums.fold(range)
      for (_, arena) in left {
        meter.ownSquares += SumOfSquares.of(
          UnsafeBufferPointer(start: arena + range.lowerBound, count: range.count))
      }
      try mesh.reduceScatter(
        PartialSums(spans: shares.spans, arenas: left.map(\.arena)), plan, bucket: bucket, into: start)
    }
    if result == .everything { try mesh.allGather(start, plan, bucket: bucket) }
    meter.summing.busySeconds += CommunicationTotals.now() - began
    meter.summing.reducedBytes += range.count * MemoryLayout<Float>.stride
    meter.summing.reducedBuckets += 1
  }
}
