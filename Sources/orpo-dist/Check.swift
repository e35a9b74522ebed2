import ArgumentParser
import Glibc
import Training

struct Check: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract:
      "Check this cluster: hosts, binding, speed, and a short real training that all ranks must agree on (default).")

  mutating func run() throws {
    try Ranks.collectively { communicator in
      try SelfCheck.run(communicator) { line in
        print(line)
        // Under mpirun standard output is a pipe, and a check that is ended from outside must not take its lines along.
        fflush(nil)
      }
    }
  }
}
