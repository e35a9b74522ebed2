package import Collectives
package import Timeline

/// Adds the ranks' gradients up, bucket by bucket, in the order in which backward finishes them.
///
/// The arena is laid out in that order, so it becomes ready from offset 0 upward and a bucket is a contiguous slice.
/// The sum is not divided: the loss weights already carry the counts of the whole step. One step is: `ready(upTo:)`
/// any number of times during the last micro-batch, then `finish()`. A rank without a micro-batch calls `finish()`
/// alone; all ranks sum the same buckets in the same order.
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

  /// - Parameters:
  ///   - gradients: the arena, of the same size on all ranks; it must outlive the reducer.
  ///   - bucketBytes: size of a bucket, at least one value.
  ///   - overlaps: sum on a thread of its own while `ready(upTo:)` returns; needs `MPI_THREAD_MULTIPLE`, and is not done
  ///     without it nor where there is one rank.
  package init(
    mesh: RankMesh, gradients: UnsafeMutableBufferPointer<Float>, result: Result = .everything,
    bucketBytes: Int = 16 << 20, overlaps: Bool = false
  ) {
    self.mesh = mesh
    self.gradients = gradients
    self.result = result
    let plan = ShardPlan(
      valueCount: gradients.count, bucketValues: max(bucketBytes / MemoryLayout<Float>.stride, 1), grid: mesh.grid)
    self.plan = plan
    let meter = CommunicationMeter()
    self.meter = meter
    let communicator = mesh.communicator
    guard overlaps, communicator.worldSize > 1, communicator.threadLevel == .multiple else {
      thread = nil
      return
    }
    nonisolated(unsafe) let arena = gradients
    thread = BucketThread { bucket throws(MPIError) in
      try Self.reduce(bucket, arena, plan, mesh, result, meter, thread: 1)
    }
  }

  deinit { thread?.stop() }

  /// Whether buckets are summed while backward goes on.
  package var overlaps: Bool { thread != nil }

  package var communicator: Communicator { mesh.communicator }

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
    let began = CommunicationMeter.now()
    try launch(plan.bucketCount)
    try thread?.finish(plan.bucketCount)
    launched = 0
    announced = 0
    guard mesh.communicator.worldSize > 1 else { return }
    let seconds = CommunicationMeter.now() - began
    meter.waiting.tailSeconds += seconds
    // Without a thread, `launch` has counted it.
    if thread != nil { meter.waiting.exposedSeconds += seconds }
  }

  /// Gives every rank the whole of `parameters`, an arena of the gradients' layout of which each rank has updated its own
  /// slices. A collective call, after `finish()`. Where every rank has all sums there is nothing to give.
  package func gatherParameters(_ parameters: UnsafeMutableBufferPointer<Float>) throws(MPIError) {
    precondition(parameters.count == gradients.count, "\(parameters.count) parameters, \(gradients.count) gradients")
    guard result == .ownSlices, mesh.communicator.worldSize > 1, let start = parameters.baseAddress else { return }
    let began = CommunicationMeter.now()
    for bucket in 0..<plan.bucketCount { try mesh.allGather(start, plan, bucket: bucket) }
    meter.waiting.exposedSeconds += CommunicationMeter.now() - began
  }

  private func launch(_ count: Int) throws(MPIError) {
    guard mesh.communicator.worldSize > 1, launched < count else { return }
    if let thread {
      thread.start(below: count)
    } else {
      let began = CommunicationMeter.now()
      for bucket in launched..<count { try Self.reduce(bucket, gradients, plan, mesh, result, meter, thread: 0) }
      meter.waiting.exposedSeconds += CommunicationMeter.now() - began
    }
    launched = count
  }

  private static func reduce(
    _ bucket: Int, _ gradients: UnsafeMutableBufferPointer<Float>, _ plan: ShardPlan, _ mesh: RankMesh,
    _ result: Result, _ meter: CommunicationMeter, thread: Int
  ) throws(MPIError) {
    guard let start = gradients.baseAddress else { return }
    let began = CommunicationMeter.now()
    let timeline = meter.timeline
    let begin = timeline == nil ? 0 : Timeline.now()
    defer { timeline?.record("reduce bucket", bucket, thread: thread, begin: begin, end: Timeline.now()) }
    try mesh.reduceScatter(start, plan, bucket: bucket)
    if result == .everything { try mesh.allGather(start, plan, bucket: bucket) }
    meter.summing.busySeconds += CommunicationMeter.now() - began
    meter.summing.reducedBytes += plan.bucket(bucket).count * MemoryLayout<Float>.stride
    meter.summing.reducedBuckets += 1
  }
}
