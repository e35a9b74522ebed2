import Collectives
import Glibc

// What needs several ranks: `mpirun -n N rank-tests`, at any N.

func runAllChecks() -> Int32 {
  do {
    let communicator = try Communicator.start()
    do {
      let passed = try run(collectiveChecks, on: communicator)
      try communicator.finish()
      return passed ? 0 : 1
    } catch {
      communicator.fail(error)
    }
  } catch {
    print("rank-tests: \(error)")
    return 1
  }
}

exit(runAllChecks())
