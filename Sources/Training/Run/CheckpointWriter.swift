import Collectives
import DataParallel
import Decoder
import Foundation
import Kernels
import Synchronization
import Tensors

/// Writes checkpoints on a thread of its own while training goes on: the step loop waits for a copy in memory, and for the
/// previous checkpoint where that is not done yet.
///
/// Rank 0 copies the parameters and every rank its moments, which then travel to rank 0 over a communicator of their own, or
/// are written by every rank itself. One checkpoint is under way at a time. All ranks make the same calls in the same order.
final class CheckpointWriter {
  /// What became of a checkpoint; failures to write are known to rank 0 at least.
  struct Outcome {
    var step: Int
    /// nil when it is complete.
    var failure: (any Error)?
    /// What kept older checkpoints from being removed.
    var removalFailure: (any Error)?
    /// Seconds that the step loop was held up, and that writing took beside it.
    var stallSeconds: Double
    var writeSeconds: Double
  }

  /// What is to be written: the same moment of training on all ranks.
  struct Snapshot {
    /// Empty but on rank 0, unless nothing goes on beside writing.
    let parameters: UnsafeBufferPointer<Float>
    let moments: any MomentSource
    /// All ranks, for what they have to say to each other about this.
    let ranks: RankGroup
  }

  /// Writes a checkpoint and removes older ones; called on all ranks. Returns what kept it from removing them.
  typealias Body = (Snapshot) throws -> (any Error)?

  /// Whether writing goes on beside training; not without `MPI_THREAD_MULTIPLE`.
  let isConcurrent: Bool
  private let step: ORPOStep
  private let communicator: Communicator
  private let pool: ThreadPool
  private let ranks: RankGroup
  private let parameters: AlignedBuffer<Float>
  private let moments: MomentSnapshot
  private let takesMoments: Bool
  private var underWay: (thread: Thread, work: Work)?

  /// A collective call. Memory for the copies is taken, but not touched before the first one.
  /// - Parameter takesMoments: whether this rank's moments are to be written, or travel to the rank that writes them.
  init(_ step: ORPOStep, _ communicator: Communicator, _ pool: ThreadPool, takesMoments: Bool) throws {
    self.step = step
    self.communicator = communicator
    self.pool = pool
    ranks = try communicator.group(0)
    isConcurrent = communicator.worldSize == 1 || communicator.threadLevel == .multiple
    parameters = AlignedBuffer(count: isConcurrent && communicator.isRoot ? step.decoder.parameters.count : 0)
    moments = MomentSnapshot(of: step.optimizer)
    self.takesMoments = takesMoments
  }

  /// Memory for the copies on this rank, once the first one was made.
  var bytes: Int { isConcurrent ? parameters.bytes + (takesMoments ? moments.bytes : 0) : 0 }

  /// Copies what is to be written and starts; waits for the checkpoint before.
  /// - Returns: the outcome of the one before, where nobody has asked for it yet, and of this one where it is done already.
  func start(step done: Int, _ body: @escaping Body) throws -> [Outcome] {
    guard isConcurrent else { return [try writeNow(step: done, body)] }
    let began = CommunicationTotals.now()
    let before = try finish()
    if communicator.isRoot { pool.copy(UnsafeBufferPointer(step.decoder.parameters), to: parameters.pointer) }
    if takesMoments { moments.take(pool) }
    let snapshot = Snapshot(parameters: UnsafeBufferPointer(parameters.values), moments: moments, ranks: ranks)
    nonisolated(unsafe) let write = { try body(snapshot) }
    let work = Work(step: done, stallSeconds: CommunicationTotals.now() - began, write)
    let thread = Thread { work.run() }
    thread.stackSize = 4 << 20
    thread.start()
    underWay = (thread, work)
    return before
  }

  /// Writes what is in memory now, with nothing going on beside it, after the checkpoint before.
  func writeNow(step done: Int, _ body: @escaping Body) throws -> Outcome {
    let began = CommunicationTotals.now()
    let snapshot = Snapshot(
      parameters: UnsafeBufferPointer(step.decoder.parameters), moments: step.optimizer, ranks: ranks)
    let work = Work(step: done, stallSeconds: 0) { try body(snapshot) }
    work.run()
    var outcome = try work.outcome()
    outcome.stallSeconds = CommunicationTotals.now() - began
    return outcome
  }

  /// The outcome of the checkpoint under way, when it is done.
  func poll() throws -> [Outcome] {
    guard let underWay, underWay.work.isDone else { return [] }
    return try finish()
  }

  /// Waits for the checkpoint under way.
  func finish() throws -> [Outcome] {
    guard let work = underWay?.work else { return [] }
    underWay = nil
    work.wait()
    return [try work.outcome()]
  }

  /// One checkpoint being written.
  private final class Work: @unchecked Sendable {
    private let step: Int
    private let stallSeconds: Double
    private let body: () throws -> (any Error)?
    private let done = NSCondition()
    private var result: Result<(seconds: Double, removalFailure: (any Error)?), any Error>?

    init(step: Int, stallSeconds: Double, _ body: @escaping () throws -> (any Error)?) {
      self.step = step
      self.stallSeconds = stallSeconds
      self.body = body
    }

    var isDone: Bool { done.withLock { result != nil } }

    func run() {
      let began = CommunicationTotals.now()
      let found = Result { try body() }.map { (seconds: CommunicationTotals.now() - began, removalFailure: $0) }
      done.withLock {
        result = found
        done.broadcast()
      }
    }

    func wait() {
      done.withLock { while result == nil { done.wait() } }
    }

    /// - Throws: what MPI said; anything else is the checkpoint's failure, not the run's.
    func outcome() throws -> Outcome {
      switch done.withLock({ result }) {
      case .success((let seconds, let removalFailure))?:
        return Outcome(
          step: step, failure: nil, removalFailure: removalFailure, stallSeconds: stallSeconds, writeSeconds: seconds)
      case .failure(let error as MPIError)?: throw error
      case .failure(let error)?:
        return Outcome(step: step, failure: error, stallSeconds: stallSeconds, writeSeconds: 0)
      case nil: preconditionFailure("the checkpoint is not done")
      }
    }
  }
}
