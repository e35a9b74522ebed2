import Foundation
import JSON
import Testing

extension EndToEndTests {
  /// Ranks that fall silent without ending end the job, with their names.
  @Suite struct FaultTests {
    /// A run that would go on for hours, once its steps have begun.
    private func longRun(overrides: [String] = [], in scratch: ScratchDirectory) throws -> (Command, [pid_t]) {
      let job = try startTraining(
        ranks: 2, settings: ["max_steps": 1_000_000], overrides: overrides, in: scratch)
      let metrics = scratch.url.appending(path: "out/metrics.jsonl")
      for _ in 0..<600 where ((try? Data(contentsOf: metrics))?.count ?? 0) == 0 { usleep(100_000) }
      try #require(((try? Data(contentsOf: metrics))?.count ?? 0) > 0, "the run logs no step")
      let ranks = try job.rankProcesses()
      try #require(ranks.count == 2)
      return (job, ranks)
    }

    /// What the operating system calls stopped, MPI takes for slow: only other ranks can tell.
    @Test(arguments: [0, 1]) func aStoppedRankEndsTheJob(stopped: Int) throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let (job, ranks) = try longRun(in: scratch)
      // Ranks tell each other every two seconds where they are.
      sleep(5)
      kill(ranks[stopped], SIGSTOP)
      let result = try job.wait(atMost: 90)
      #expect(result.exitCode != 0)
      #expect(result.standardError.contains("not heard of"), "\(result.output)")
      #expect(result.standardError.contains("s: rank \(stopped) of 2 on "), "\(result.output)")
      #expect(result.standardError.contains("(last: step "), "\(result.output)")
      // The launcher may be gone before the last of them is.
      for _ in 0..<100 where ranks.contains(where: { kill($0, 0) == 0 }) { usleep(100_000) }
      for rank in ranks { #expect(kill(rank, 0) != 0, "rank process \(rank) is still there") }
    }
  }
}
