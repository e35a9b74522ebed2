import Collectives
import Foundation
import Synchronization

/// Ends a self-check that hangs, as MPI does on a network that lets connections open but no messages through, and says
/// where.
final class Watchdog: Sendable {
  private struct State {
    var stage = "the start"
    var since = ProcessInfo.processInfo.systemUptime
    var hasEnded = false
  }

  private let state = Mutex(State())

  /// Far beyond what a stage takes on a slow cluster; other ranks leave it to rank 0 to speak first.
  private static let seconds = 60.0

  init(_ communicator: Communicator) {
    let limit = Self.seconds + (communicator.isRoot ? 0 : 5)
    Thread.detachNewThread { [self] in
      var lastLook = ProcessInfo.processInfo.systemUptime
      while true {
        sleep(1)
        let now = ProcessInfo.processInfo.systemUptime
        // A thread that slept so much longer was stopped, and the others with it.
        if now - lastLook > 5 { state.withLock { $0.since = now } }
        lastLook = now
        let (stage, since, hasEnded) = state.withLock { ($0.stage, $0.since, $0.hasEnded) }
        if hasEnded { return }
        if now - since > limit {
          communicator.fail(
            SelfCheckHang(
              description:
                "no progress for \(Int(limit)) s in \(stage): a rank has stopped, or messages do not arrive. "
                + "Check which network MPI takes (mpirun --mca btl_tcp_if_include NETWORK --mca oob_tcp_if_include NETWORK)"
            ))
        }
      }
    }
  }

  func enter(_ stage: String) {
    state.withLock {
      $0.stage = stage
      $0.since = ProcessInfo.processInfo.systemUptime
    }
  }

  func end() { state.withLock { $0.hasEnded = true } }
}

private struct SelfCheckHang: Error, CustomStringConvertible {
  var description: String
}
