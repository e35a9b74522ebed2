import Glibc
import Synchronization

/// USR1 and TERM, by which schedulers and launchers announce that a job is to end: the first asks the run to save and stop at
/// the end of its step, a second one ends the process at once.
package enum StopSignals {
  /// The signal that was received first; 0 before. Read and written by a signal handler, hence nothing but atomics.
  private static let first = Atomic<Int32>(0)
  private static let firstSeconds = Atomic<Int>(0)

  /// Launchers pass a signal on in several ways, and some processes get it twice.
  private static let repeatSeconds = 3

  /// Begins to listen. To be called after MPI has started, whose launcher has handlers of its own.
  package static func listen() {
    // Initialised here, not in a handler.
    _ = (first.load(ordering: .relaxed), firstSeconds.load(ordering: .relaxed))
    for number in [SIGUSR1, SIGTERM] {
      var action = sigaction()
      action.__sigaction_handler.sa_handler = { StopSignals.receive($0) }
      // Whatever is reading or writing goes on.
      action.sa_flags = SA_RESTART
      sigaction(number, &action, nil)
    }
    // A file that grows beyond `ulimit -f` is then an error of that file, not the end of the process.
    signal(SIGXFSZ, SIG_IGN)
  }

  /// Name of the signal that asks this process to stop; nil as long as none does.
  package static var received: String? {
    switch first.load(ordering: .acquiring) {
    case 0: nil
    case SIGTERM: "SIGTERM"
    default: "SIGUSR1"
    }
  }

  /// Only what a signal handler may do.
  private static func receive(_ number: Int32) {
    var now = timespec()
    clock_gettime(CLOCK_MONOTONIC, &now)
    if first.compareExchange(expected: 0, desired: number, ordering: .acquiringAndReleasing).exchanged {
      firstSeconds.store(now.tv_sec, ordering: .releasing)
    } else if now.tv_sec - firstSeconds.load(ordering: .acquiring) > repeatSeconds {
      _exit(128 + number)
    }
  }
}
