import Foundation
import Testing

extension EndToEndTests {
  /// `orpo-dist` without arguments and without a file.
  @Suite struct SelfCheckTests {
    /// `N ranks on H hosts agree; loss A -> B in S steps`, with the losses.
    static func verdict(_ output: String) throws -> (line: String, first: Double, last: Double) {
      let line = try #require(output.split(separator: "\n").last.map(String.init), "nothing was printed")
      let match = try #require(
        line.wholeMatch(of: #/ok: .* agrees?; loss (?<first>[0-9.]+) -> (?<last>[0-9.]+) in [0-9]+ steps, .*/#),
        "the last line is: \(line)")
      return (line, try #require(Double(match.first)), try #require(Double(match.last)))
    }

    /// The table's lines as words: rank, host, cores, threads, visible, online.
    static func table(_ output: String) -> [[String]] {
      let lines = output.split(separator: "\n").drop { !$0.hasPrefix("rank") }.dropFirst()
      return lines.map { $0.split(separator: " ").map(String.init) }.prefix {
        $0.count == 6 && $0[0].first?.isNumber == true
      }
    }

    @Test(arguments: [1, 2, 3]) func allRanksAgree(ranks: Int) throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let result = try Command.mpirun([.init(count: ranks, arguments: [])], in: scratch.url).wait()
      #expect(result.exitCode == 0, "\(result.output)")
      let (line, first, last) = try Self.verdict(result.standardOutput)
      #expect(
        line.hasPrefix(ranks == 1 ? "ok: 1 rank on 1 host agrees;" : "ok: \(ranks) ranks on 1 host agree;"), "\(line)")
      // log 259 + log 2: all bytes equally likely, chosen as likely as rejected.
      #expect(abs(first - 6.25) < 0.2 && last < 0.9 * first, "\(line)")

      let table = Self.table(result.standardOutput)
      #expect(table.map { $0[0] } == (0..<ranks).map(String.init), "\(result.standardOutput)")
      let host = ProcessInfo.processInfo.hostName
      #expect(table.allSatisfy { host.hasPrefix($0[1]) || $0[1].hasPrefix(host) }, "\(result.standardOutput)")
      #expect(table.allSatisfy { (Int($0[3]) ?? 0) >= 1 && (Int($0[4]) ?? 0) <= (Int($0[5]) ?? 0) })
      for word in ["MPI ", "thread level", "products ", "oneDNN", "GFLOP/s", "all-reduce", "margin", "pairs/s"] {
        #expect(result.standardOutput.contains(word), "\(word) is missing in:\n\(result.standardOutput)")
      }
      #expect(result.standardOutput.contains("32 MB") == (ranks > 1))
      #expect(result.standardOutput.split(separator: "\n").allSatisfy { $0.count <= 100 }, "\(result.standardOutput)")
      let left = try FileManager.default.contentsOfDirectory(atPath: scratch.url.path).filter {
        !$0.hasPrefix("output-")
      }
      #expect(left.isEmpty)
    }

    /// The data are the same however they are dealt out, so the first loss is.
    @Test func theFirstLossDoesNotDependOnTheRanks() throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let alone = try Command.alone(["check"], in: scratch.url).wait()
      let four = try Command.mpirun([.init(count: 4, arguments: ["check"])], in: scratch.url).wait()
      let losses = try [alone, four].map { try Self.verdict($0.standardOutput).first }
      // Both are rounded to two digits.
      #expect(abs(losses[0] - losses[1]) < 0.011, "\(losses)")
    }

    @Test func aRankThatDiesEndsTheCheck() throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let job = try Command.mpirun([.init(count: 2, arguments: [])], in: scratch.url)
      while job.process.isRunning, try job.rankProcesses().count < 2 { usleep(2000) }
      let ranks = try job.rankProcesses()
      try #require(ranks.count == 2)
      kill(ranks[1], SIGKILL)
      let result = try job.wait(atMost: 60)
      #expect(result.exitCode != 0)
      #expect(!result.standardOutput.contains("ok:"), "\(result.output)")
    }
  }
}
