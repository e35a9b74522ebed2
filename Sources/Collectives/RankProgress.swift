import Glibc
import Synchronization

/// What this rank is doing, for whoever watches it: set by the thread that works, read by another one, without a lock.
package final class RankProgress: Sendable {
  package enum Phase: Int, Sendable {
    case start, forward, backward, reduction, optimizer, evaluation, checkpoint, logs, end

    package var name: String {
      switch self {
      case .start: "starting"
      case .forward: "forward"
      case .backward: "backward"
      case .reduction: "sums of gradients"
      case .optimizer: "optimizer"
      case .evaluation: "evaluation"
      case .checkpoint: "checkpoint"
      case .logs: "logs"
      case .end: "ending"
      }
    }
  }

  /// Step counted from 1, 0 before the first; and how long there was no other step or phase.
  package struct Place: Sendable, Equatable {
    package var step = 0
    package var phase = Phase.start
    package var seconds = 0.0

    package init(step: Int = 0, phase: Phase = .start, seconds: Double = 0) {
      (self.step, self.phase, self.seconds) = (step, phase, seconds)
    }

    /// `step 41, backward`.
    package var description: String { (step > 0 ? "step \(step), " : "") + phase.name }
  }

  private let step = Atomic<Int>(0)
  private let phase = Atomic<Int>(0)
  private let since = Atomic<Int>(RankProgress.milliseconds())
  private let bytesWritten: @Sendable () -> Int
  private let lastBytesWritten = Atomic<Int>(0)

  /// - Parameter bytesWritten: what this process has written to files since it began.
  package init(bytesWritten: @escaping @Sendable () -> Int = { 0 }) { self.bytesWritten = bytesWritten }

  /// A number of the step that is -1 leaves the step as it is. Entering the same phase again is progress too.
  package func enter(_ phase: Phase, step: Int = -1) {
    if step >= 0 { self.step.store(step, ordering: .relaxed) }
    self.phase.store(phase.rawValue, ordering: .relaxed)
    since.store(Self.milliseconds(), ordering: .relaxed)
  }

  /// A checkpoint of a large model on a slow disk takes long, and gets on as long as bytes are written.
  func lookAtFiles() {
    let bytes = bytesWritten()
    guard bytes != lastBytesWritten.exchange(bytes, ordering: .relaxed),
      phase.load(ordering: .relaxed) == Phase.checkpoint.rawValue
    else { return }
    since.store(Self.milliseconds(), ordering: .relaxed)
  }

  /// Time in which the whole process was stopped is no time in which it did not get on.
  func excuse(milliseconds: Int) {
    let now = Self.milliseconds()
    since.store(min(since.load(ordering: .relaxed) + milliseconds, now), ordering: .relaxed)
  }

  package var place: Place {
    Place(
      step: step.load(ordering: .relaxed), phase: Phase(rawValue: phase.load(ordering: .relaxed)) ?? .start,
      seconds: Double(Self.milliseconds() - since.load(ordering: .relaxed)) / 1000)
  }

  /// Of a clock of this host that nobody sets.
  static func milliseconds() -> Int {
    var now = timespec()
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec * 1000 + now.tv_nsec / 1_000_000
  }
}
