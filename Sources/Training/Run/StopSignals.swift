import Foundation
import Glibc
import Kernels
import Synchronization

/// USR1 and TERM, by which schedulers and launchers announce that a job is to end: the first asks the run to save and stop at
/// the end of its step, a second one of the same kind ends the process at once. One of each is what schedulers send whose time
/// limit comes after their warning; there is still time to save then.
package enum StopSignals {
  /// Seconds, of a clock that begins with the machine, in which the first of each kind was received; 0 before. Read and written
  /// by a signal handler, hence nothing but atomics.
  private static let userSignal = Atomic<Int>(0)
  private static let termination = Atomic<Int>(0)

  /// Launchers pass a signal on in several ways, and some processes get it twice.
  private static var repeatSeconds: Int { 3 }

  private static let numbers = [SIGUSR1, SIGTERM]

  /// Begins to listen. To be called after MPI has started, whose launcher has handlers of its own.
  ///
  /// Threads that compute are never interrupted. oneDNN's products use the stack pointer for memory of their own on the heap,
  /// and what the kernel puts below it for a signal handler destroys whatever lies there.
  static func listen(besides pool: ThreadPool) {
    // Initialised here, not in a handler.
    _ = (userSignal.load(ordering: .relaxed), termination.load(ordering: .relaxed))
    pool.run { _ in setMask(SIG_BLOCK) }
    setMask(SIG_BLOCK)
    for number in numbers {
      var action = sigaction()
      action.__sigaction_handler.sa_handler = { StopSignals.receive($0) }
      // Whatever is reading or writing goes on.
      action.sa_flags = SA_RESTART
      sigaction(number, &action, nil)
    }
    attend()
  }

  /// Starts the thread that takes the signals.
  private static func attend() {
    let thread = Thread {
      setMask(SIG_UNBLOCK)
      while pause() != 0 {}
    }
    thread.stackSize = 256 << 10
    thread.start()
  }

  /// Of the calling thread.
  private static func setMask(_ how: Int32) {
    var set = sigset_t()
    sigemptyset(&set)
    for number in numbers { sigaddset(&set, number) }
    pthread_sigmask(how, &set, nil)
  }

  /// Name of the signal that asks this process to stop, the earlier one of two; nil as long as none does.
  package static var received: String? {
    let (user, terminate) = (userSignal.load(ordering: .acquiring), termination.load(ordering: .acquiring))
    if user == 0, terminate == 0 { return nil }
    return user == 0 || terminate != 0 && terminate < user ? "SIGTERM" : "SIGUSR1"
  }

  /// Only what a signal handler may do.
  private static func receive(_ number: Int32) {
    var now = timespec()
    clock_gettime(CLOCK_MONOTONIC, &now)
    let (isFirst, earlier) =
      number == SIGTERM
      ? termination.compareExchange(expected: 0, desired: now.tv_sec, ordering: .acquiringAndReleasing)
      : userSignal.compareExchange(expected: 0, desired: now.tv_sec, ordering: .acquiringAndReleasing)
    if !isFirst, now.tv_sec - earlier > repeatSeconds { _exit(128 + number) }
  }
}
