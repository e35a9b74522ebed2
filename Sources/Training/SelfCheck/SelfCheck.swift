package import Collectives
import Kernels

/// `orpo-dist` without arguments.
package enum SelfCheck {
  package static func run(_ communicator: Communicator, print: (String) -> Void) throws {
    let job = try Job(communicator, threads: nil)
    job.pool.stop()
  }
}
