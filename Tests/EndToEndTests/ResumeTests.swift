import Foundation
import JSON
import Testing

extension EndToEndTests {
  /// A rank is killed in the middle of a run; the run is taken up again from its newest checkpoint.
  @Suite struct ResumeTests {
    /// Large enough steps that the kill comes well before the end.
    static let settings: Settings = [
      "max_steps": 40, "save_steps": 4, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 2,
      "shuffle": true,
      "warmup_steps": 5,
    ]

    static func tolerances(_ relative: Double) -> [(name: String, tolerance: Tolerance)] {
      (metricNames + ["grad_norm", "learning_rate", "epoch"]).map {
        ($0, Tolerance(relative: relative, absolute: relative / 100))
      }
    }

    @Test func aKilledRunContinuesAsIfNothingHadHappened() throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let undisturbed = try runTraining(ranks: 2, settings: Self.settings, in: scratch, output: "undisturbed")
      try #require(undisturbed.steps.count == 40)

      let job = try startTraining(ranks: 2, settings: Self.settings, in: scratch, output: "killed")
      let killed = scratch.url.appending(path: "killed")
      try waitFor("killed/checkpoint-4", in: scratch, of: job)
      let ranks = try job.rankProcesses()
      try #require(ranks.count == 2)
      kill(ranks[1], SIGKILL)
      let result = try job.wait()
      try #require(result.exitCode != 0, "the run ended before its rank was killed")
      let stopped = try newestStep(in: killed)
      try #require(stopped >= 4 && stopped < 40)

      // The other rank count starts from what the kill left, too.
      let other = scratch.url.appending(path: "other")
      try FileManager.default.copyItem(at: killed, to: other)

      let resumed = try runTraining(ranks: 2, settings: Self.settings, resume: true, in: scratch, output: "killed")
      try expectSameLogs(resumed.steps, undisturbed.steps, Self.tolerances(0), "two ranks again")
      #expect(try parameters(in: killed) == parameters(in: undisturbed.outputDirectory))

      // Same global batch, split otherwise; sums are taken in another order.
      let four = try runTraining(
        ranks: 4, settings: Self.settings, overrides: ["gradient_accumulation_steps=1"], resume: true, in: scratch,
        output: "other")
      try expectSameLogs(four.steps, undisturbed.steps, Self.tolerances(1e-5), "four ranks")
      let differences = zip(try parameters(in: other), try parameters(in: undisturbed.outputDirectory)).map {
        abs($0 - $1)
      }
      #expect(try #require(differences.max()) < 1e-3)
    }

    /// Logs, evaluations and checkpoints at different intervals: a log that spans the resume holds all of its steps,
    /// and none is there twice.
    @Test func aResumedRunLogsAsOneNeverStopped() throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let settings: Settings = [
        "max_steps": 14, "logging_steps": 4, "eval_steps": 5, "save_steps": 3, "shuffle": true, "eval_split": 0.2,
        "eval_on_start": true,
      ]
      let whole = try runTraining(ranks: 2, settings: settings, in: scratch, output: "whole")
      func lines(_ output: URL) throws -> [JSONValue] {
        try jsonLines(in: String(decoding: Data(contentsOf: output.appending(path: "metrics.jsonl")), as: UTF8.self))
      }
      let expected = try lines(whole.outputDirectory)
      #expect(expected.compactMap { $0["step"]?.integer } == [0, 4, 5, 8, 10, 12, 14, 14])

      // As if it had been stopped after its sixth step; what had been logged after that is still there.
      let stopped = scratch.url.appending(path: "stopped")
      try FileManager.default.copyItem(at: whole.outputDirectory, to: stopped)
      for step in [9, 12] { try FileManager.default.removeItem(at: stopped.appending(path: "checkpoint-\(step)")) }
      for attempt in ["to the end", "from the end"] {
        let resumed = try runTraining(ranks: 2, settings: settings, resume: true, in: scratch, output: "stopped")
        let found = try lines(resumed.outputDirectory)
        try #require(found.count == expected.count, "\(attempt)")
        for (found, expected) in zip(found, expected) {
          let timed = [
            "tokens_per_second", "pairs_per_second", "step_time", "mfu", "comm_time", "comm_tail_time",
            "save_stall_time",
            "peak_memory_gb", "eval_runtime",
          ]
          for (name, value) in try #require(expected.object).members
          where !timed.contains(name) && name != "eval_pairs_per_second" {
            #expect(found[name]?.serialized() == value.serialized(), "\(attempt), \(expected.serialized()): \(name)")
          }
        }
        #expect(try parameters(in: resumed.outputDirectory) == parameters(in: whole.outputDirectory))
      }
    }

    @Test func resumingWithAnotherGlobalBatchNamesTheRightOne() throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      _ = try runTraining(ranks: 2, settings: ["max_steps": 2, "save_steps": 1], in: scratch)
      let out = scratch.url.appending(path: "out").path
      for arguments in [["--resume", "max_steps=2"], ["max_steps=2", "--resume", out + "/checkpoint-1"]] {
        let result = try startTraining(ranks: 1, overrides: arguments, in: scratch).wait()
        #expect(result.exitCode != 0)
        #expect(result.standardError.contains("gradient_accumulation_steps=8"), "\(result.output)")
      }
      let stray = try startTraining(ranks: 1, overrides: [out + "/checkpoint-1", "--resume"], in: scratch).wait()
      #expect(stray.exitCode != 0)
      #expect(stray.standardError.contains("key=value"), "\(stray.output)")
    }

    /// The command that names a checkpoint goes on, given again, from what it has saved since, as schedulers give it.
    @Test func aNamedCheckpointIsWhereARunBegins() throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let settings: Settings = ["max_steps": 5, "save_steps": 1, "save_total_limit": 2]
      let first = try runTraining(
        ranks: 2, settings: settings, overrides: ["save_total_limit=null"], in: scratch, output: "first")
      let named = first.outputDirectory.appending(path: "checkpoint-2").path
      func goOn(_ output: String, _ overrides: [String] = ["learning_rate=5e-4"]) throws -> CommandResult {
        try startTraining(
          ranks: 2, settings: settings, overrides: overrides + ["--resume", named], in: scratch, output: output
        ).wait()
      }
      // Later checkpoints of another course would be taken for its own.
      let refused = try goOn("first")
      #expect(refused.exitCode == 1)
      #expect(refused.standardError.contains("holds checkpoint-5, of another course"), "\(refused.output)")

      let whole = try goOn("second")
      #expect(whole.exitCode == 0 && whole.output.contains("continuing from \(named)"), "\(whole.output)")
      let output = scratch.url.appending(path: "second")
      #expect(try newestStep(in: output) == 5)
      let expected = try parameters(in: output)
      try FileManager.default.removeItem(at: output.appending(path: "checkpoint-5"))
      // What it began with need not be there any more.
      try FileManager.default.removeItem(atPath: named)
      let rest = try goOn("second")
      #expect(rest.exitCode == 0 && rest.output.contains("second/checkpoint-4"), "\(rest.output)")
      #expect(try parameters(in: output) == expected)
      let other = try goOn("second", ["learning_rate=1e-4"])
      #expect(other.exitCode == 1 && other.standardError.contains(named), "\(other.output)")
    }

    /// A model of fewer steps, or one that was being replaced, is not taken for the run's.
    @Test func aModelThatIsNotOfTheLastStepIsWrittenAgain() throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let short = try runTraining(ranks: 1, settings: ["max_steps": 2, "save_steps": 2], in: scratch, output: "short")
      let settings: Settings = ["max_steps": 4, "save_steps": 2]
      let long = try runTraining(ranks: 1, settings: settings, in: scratch, output: "long")
      let expected = try parameters(in: long.outputDirectory)
      for files in [["model.safetensors", "trainer_state.json"], ["model.safetensors"]] {
        try FileManager.default.removeItem(at: long.outputDirectory.appending(path: "trainer_state.json"))
        for name in files {
          let place = long.outputDirectory.appending(path: name)
          try? FileManager.default.removeItem(at: place)
          try FileManager.default.copyItem(at: short.outputDirectory.appending(path: name), to: place)
        }
        try #require(parameters(in: long.outputDirectory) != expected)
        let again = try runTraining(ranks: 1, settings: settings, in: scratch, output: "long")
        #expect(!again.result.output.contains("were done before"), "\(again.result.output)")
        #expect(try parameters(in: long.outputDirectory) == expected)
      }
      let last = try runTraining(ranks: 1, settings: settings, in: scratch, output: "long")
      #expect(last.result.output.contains("all 4 steps were done before"), "\(last.result.output)")
    }

    @Test func nothingToResumeIsABeginning() throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let run = try runTraining(ranks: 2, settings: ["max_steps": 2], resume: true, in: scratch)
      #expect(run.steps.count == 2)
    }

    @Test func resumingWithoutACheckpointSaysSo() throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let result = try startTraining(ranks: 1, overrides: ["--resume", "nowhere-to-be-found"], in: scratch).wait()
      #expect(result.exitCode != 0)
      #expect(result.output.contains("nowhere-to-be-found"), "\(result.output)")
    }

    private func waitFor(_ name: String, in scratch: ScratchDirectory, of job: Command) throws {
      let path = scratch.url.appending(path: name).path
      while !FileManager.default.fileExists(atPath: path) {
        guard job.process.isRunning else {
          throw RunError(description: "the run ended without \(name):\n" + (try job.wait().output))
        }
        usleep(2000)
      }
    }

    private func newestStep(in output: URL) throws -> Int {
      try FileManager.default.contentsOfDirectory(atPath: output.path).compactMap { name in
        name.hasPrefix("checkpoint-") ? Int(name.dropFirst("checkpoint-".count)) : nil
      }.max() ?? 0
    }

    /// Every number of the final `model.safetensors`, in file order: 8 bytes of header length, the header, then F32
    /// values.
    private func parameters(in output: URL) throws -> [Float] {
      let data = try Data(contentsOf: output.appending(path: "model.safetensors"))
      try #require(data.count > 8)
      let header = data.prefix(8).enumerated().reduce(0) { $0 | Int($1.element) << (8 * $1.offset) }
      let names = try JSONValue(parsing: Array(data[8..<8 + header]))
      for (name, tensor) in try #require(names.object).members where name != "__metadata__" {
        #expect(tensor["dtype"]?.string == "F32", "\(name)")
      }
      let values = data[(8 + header)...]
      return values.withUnsafeBytes { bytes in
        (0..<bytes.count / 4).map { bytes.loadUnaligned(fromByteOffset: 4 * $0, as: Float.self) }
      }
    }
  }
}
