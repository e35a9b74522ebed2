import Collectives
import Glibc

// What needs several ranks. `mpirun -n N rank-tests`, at any N, runs the checks; `rank-tests aborts`, without mpirun,
// starts jobs whose ranks fail and looks at how they end. `mpirun -n N rank-tests speed` measures reductions.

func runAllChecks() -> Int32 {
  do {
    let communicator = try Communicator.start()
    do {
      let checks =
        collectiveChecks + shardPlanChecks + meshChecks + reducerChecks + optimizerChecks + shardingChecks
        + partSumChecks
      let passed = try run(checks, on: communicator)
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

switch CommandLine.arguments.dropFirst().first {
case nil: exit(runAllChecks())
case "aborts": exit(runAbortChecks())
case "speed": exit(measureReductions(Array(CommandLine.arguments.dropFirst(2))))
case "fail": exit(failOnPurpose(Array(CommandLine.arguments.dropFirst(2))))
case let other?:
  print("rank-tests: unknown argument \(other); `aborts`, `speed` or none")
  exit(2)
}
