import Foundation
import JSON
import Testing

extension EndToEndTests {
  /// Ranks that are not alike: what must not differ is refused by all of them, with the rank, its host and the difference;
  /// what may differ changes nothing.
  @Suite struct WorldTests {
    static let row = #"{"prompt": "Hello?", "chosen": " How can I help?", "rejected": " Go away."}"#

    /// Expects one message, which names `rank` and holds all of `words`.
    private func expectRefusal(_ result: CommandResult, of rank: Int, _ words: String...) {
      #expect(result.exitCode != 0)
      #expect(result.standardError.components(separatedBy: "orpo-dist: ").count == 2, "\(result.output)")
      for word in words + ["rank \(rank) on "] {
        #expect(result.standardError.contains(word), "\(word) is not in:\n\(result.output)")
      }
    }

    /// The command line of a run whose configuration file all ranks share.
    private func arguments(_ overrides: [String], in scratch: ScratchDirectory) throws -> [String] {
      let settings = Settings.base(model: "llama", output: scratch.url.appending(path: "out"))
      return ["train", "--config", try scratch.write(settings.yaml, to: "run.yaml").path] + overrides
    }

    @Test(arguments: [["train", "--config", "run.yaml"], []]) func anotherBuildOnOneRankIsRefused(_ arguments: [String])
      throws
    {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let other = scratch.url.appending(path: "orpo-dist")
      try FileManager.default.copyItem(at: Command.binary(), to: other)
      // An executable's last byte is of no meaning to the one who loads it.
      let file = try FileHandle(forWritingTo: other)
      try file.seekToEnd()
      try file.write(contentsOf: Data([0]))
      try file.close()
      let result = try Command.mpirun(
        [
          .init(count: 1, arguments: arguments), .init(count: 1, arguments: arguments, program: other),
          .init(count: 1, arguments: arguments),
        ], in: scratch.url
      ).wait(atMost: 60)
      expectRefusal(result, of: 1, "the ranks do not have the same orpo-dist program (2 of 3 agree)", "rank 0 on ")
      let builds = result.standardError.matches(of: /, build [0-9a-f]{16}`/).map { String($0.output) }
      #expect(builds.count == 2 && Set(builds).count == 2, "\(result.output)")
    }

    @Test func anotherConfigurationOnOneRankIsRefused() throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let arguments = try arguments([], in: scratch)
      let result = try Command.mpirun(
        [.init(count: 2, arguments: arguments), .init(count: 1, arguments: arguments + ["learning_rate=0.5"])],
        in: scratch.url
      ).wait(atMost: 60)
      expectRefusal(
        result, of: 2, "the ranks do not have the same configuration (2 of 3 agree)", "`learning_rate: 0.5`",
        "`learning_rate: 0.001`")
    }

    @Test(arguments: ["rows.jsonl", "model.safetensors", "config.json", "tokenizer.json"])
    func anotherFileOnOneRankIsRefused(_ name: String) throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      for folder in ["a", "b"] {
        _ = try scratch.write(Self.row + "\n" + Self.row + "\n", to: "\(folder)/model/rows.jsonl")
        for file in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
          try FileManager.default.copyItem(
            at: goldenDirectory.appending(path: "llama/\(file)"),
            to: scratch.url.appending(path: "\(folder)/model/\(file)"))
        }
      }
      // The same number of bytes; one other.
      let file = scratch.url.appending(path: "b/model/\(name)")
      var bytes = try Data(contentsOf: file)
      bytes[bytes.count - 2] ^= 1
      try bytes.write(to: file)
      let arguments = try arguments(["train_file=model/rows.jsonl", "model_name_or_path=model"], in: scratch)
      let result = try Command.mpirun(
        ["a", "b"].map {
          .init(count: 1, arguments: arguments, workingDirectory: scratch.url.appending(path: $0))
        }, in: scratch.url
      ).wait(atMost: 60)
      let kind = name == "rows.jsonl" ? "data" : "model"
      expectRefusal(
        result, of: 1, "the ranks do not have the same \(kind): model/\(name) is \(bytes.count) bytes with checksum",
        "rank 0 on ")
    }

    /// Rank 0 reads for all.
    @Test func otherRanksNeedNoFiles() throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let here = try scratch.write(Self.row + "\n" + Self.row + "\n", to: "a/rows.jsonl").deletingLastPathComponent()
      try FileManager.default.copyItem(at: goldenDirectory.appending(path: "llama"), to: here.appending(path: "model"))
      let arguments = try arguments(["train_file=rows.jsonl", "model_name_or_path=model", "max_steps=1"], in: scratch)
      let result = try Command.mpirun(
        [
          .init(count: 1, arguments: arguments, workingDirectory: here),
          .init(count: 1, arguments: arguments, workingDirectory: scratch.url),
        ], in: scratch.url
      ).wait()
      #expect(result.exitCode == 0, "\(result.output)")
    }

    /// Two threads of rank 1 on one core are slow, and nothing else.
    @Test func aRankOfFewerCoresIsWarnedOf() throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let even = try runTraining(ranks: 2, settings: ["max_steps": 3], in: scratch, output: "even")
      // Such as 0-3,8: what `taskset` may choose from.
      let status = String(decoding: try Data(contentsOf: URL(fileURLWithPath: "/proc/self/status")), as: UTF8.self)
      let list = try #require(status.split(separator: "\n").first { $0.hasPrefix("Cpus_allowed_list:") })
      let cores = list.split { !$0.isNumber }
      let core = String(try #require(cores.last))
      let arguments = try arguments(["max_steps=3", "threads_per_rank=2"], in: scratch)
      let result = try Command.mpirun(
        [
          .init(count: 1, arguments: arguments),
          .init(count: 1, arguments: arguments, prefix: ["taskset", "-c", core]),
        ], in: scratch.url
      ).wait()
      try #require(result.exitCode == 0, "\(result.output)")
      let warnings = result.standardError.split(separator: "\n").filter { $0.contains("threads, bound to core") }
      #expect(warnings.count == (cores.count > 1 ? 1 : 2), "\(result.output)")
      #expect(warnings.last?.hasPrefix("warning: rank 1 on ") == true, "\(result.output)")
      #expect(warnings.last?.contains(": 2 threads, bound to core \(core); set threads_per_rank") == true)
      try expectSameLogs(
        trainingLogs(in: scratch.url.appending(path: "out")), even.steps, SplitTests.tolerances, "uneven cores")
    }
  }
}
