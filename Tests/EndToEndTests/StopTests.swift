import Foundation
import JSON
import Testing

extension EndToEndTests {
  /// A scheduler asks a run to end: it saves, leaves with the code that means "start me again", and goes on by itself.
  @Suite struct StopTests {
    private static let startAgain: Int32 = 75
    private static let settings: Settings = [
      "max_steps": 40, "save_steps": 1000, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 2,
      "shuffle": true, "eval_split": 0.25, "eval_steps": 7, "logging_steps": 3,
    ]

    /// oneDNN's products use the stack pointer for memory of their own: a signal handler must not run in the middle of one.
    @Test func threadsThatComputeAreNotInterrupted() throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let job = try startTraining(
        ranks: 2, settings: Self.settings, overrides: ["threads_per_rank=3", "max_steps=100000"], in: scratch)
      while try lines(scratch.url.appending(path: "out")).isEmpty {
        guard job.process.isRunning else { throw RunError(description: "ended too early:\n" + (try job.wait().output)) }
        usleep(2000)
      }
      let ranks = try job.rankProcesses()
      try #require(ranks.count == 2)
      for rank in ranks {
        let threads = try FileManager.default.contentsOfDirectory(atPath: "/proc/\(rank)/task").compactMap(pid_t.init)
        let free = try threads.filter { try !isDeafToStopSignals("/proc/\(rank)/task/\($0)/status") }
        #expect(!free.contains(rank), "the main thread")
        #expect(threads.count - free.count >= 3, "the threads of the pool, of \(threads.count) with MPI's")
        #expect(!free.isEmpty, "somebody must hear")
      }
      // As when the other end of a connection is gone: it ends nobody.
      kill(ranks[1], SIGPIPE)
      usleep(100_000)
      kill(ranks[0], SIGTERM)
      #expect(try job.wait().exitCode == Self.startAgain)
    }

    private func isDeafToStopSignals(_ status: String) throws -> Bool {
      let text = try String(contentsOfFile: status, encoding: .utf8)
      let line = try #require(text.split(separator: "\n").first { $0.hasPrefix("SigBlk:") })
      let mask = try #require(UInt64(line.dropFirst(7).trimmingCharacters(in: .whitespaces), radix: 16))
      return [SIGUSR1, SIGTERM].allSatisfy { mask & 1 << UInt64($0 - 1) != 0 }
    }

    struct Case: CustomTestStringConvertible {
      var ranks: Int
      var signal: Int32
      var rank: Int
      var bf16 = "false"
      var testDescription: String { "signal \(signal) to rank \(rank) of \(ranks), bf16 \(bf16)" }
    }

    @Test(arguments: [
      Case(ranks: 2, signal: SIGUSR1, rank: 1), Case(ranks: 3, signal: SIGTERM, rank: 2),
      Case(ranks: 2, signal: SIGTERM, rank: 0, bf16: "auto"),
    ]) func aSignalSavesAndTheSameCommandGoesOn(_ stop: Case) throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let overrides = ["bf16=\(stop.bf16)", "gradient_accumulation_steps=\(stop.ranks == 3 ? 1 : 2)"]
      let whole = try runTraining(
        ranks: stop.ranks, settings: Self.settings, overrides: overrides, in: scratch, output: "whole")
      let output = scratch.url.appending(path: "stopped")
      let job = try startTraining(
        ranks: stop.ranks, settings: Self.settings, overrides: overrides, in: scratch, output: "stopped")
      while try lines(output).isEmpty {
        guard job.process.isRunning else { throw RunError(description: "ended too early:\n" + (try job.wait().output)) }
        usleep(2000)
      }
      kill(try job.rankProcesses()[stop.rank], stop.signal)
      let result = try job.wait()
      #expect(result.exitCode == Self.startAgain, "\(result.output)")
      let name = stop.signal == SIGTERM ? "SIGTERM" : "SIGUSR1"
      #expect(result.standardError.contains("\(name) to rank \(stop.rank) on "), "\(result.output)")
      let saved = try FileManager.default.contentsOfDirectory(atPath: output.path).filter {
        $0.hasPrefix("checkpoint-")
      }
      try #require(saved.count == 1, "\(saved)")

      let rest = try runTraining(
        ranks: stop.ranks, settings: Self.settings, overrides: overrides, in: scratch, output: "stopped")
      #expect(rest.result.output.contains("continuing from"), "\(rest.result.output)")
      #expect(try model(output) == model(whole.outputDirectory))
      #expect(try untimed(output) == untimed(whole.outputDirectory))
      for file in ["optimizer.safetensors", "model.safetensors"] {
        let path = "checkpoint-40/\(file)"
        #expect(
          try Data(contentsOf: output.appending(path: path))
            == Data(contentsOf: whole.outputDirectory.appending(path: path)), "\(file)")
      }

      // Once more: there is nothing left to do.
      let again = try startTraining(
        ranks: stop.ranks, settings: Self.settings, overrides: overrides, in: scratch, output: "stopped"
      ).wait()
      #expect(again.exitCode == 0 && again.output.contains("all 40 steps were done before"), "\(again.output)")
    }

    /// Of the same kind, a second signal ends the process at once; TERM after USR1 is what a scheduler sends at its limit.
    @Test(arguments: [SIGTERM, SIGUSR1]) func aSecondSignal(_ second: Int32) throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let job = try startTraining(ranks: 2, settings: Self.settings, overrides: ["max_steps=100000"], in: scratch)
      while try lines(scratch.url.appending(path: "out")).isEmpty {
        guard job.process.isRunning else { throw RunError(description: "ended too early:\n" + (try job.wait().output)) }
        usleep(2000)
      }
      let ranks = try job.rankProcesses()
      try #require(ranks.count == 2)
      // The step does not end while one rank stands still.
      kill(ranks[1], SIGSTOP)
      kill(ranks[0], SIGUSR1)
      sleep(5)
      kill(ranks[0], second)
      usleep(300_000)
      kill(ranks[1], SIGCONT)
      let result = try job.wait()
      #expect((result.exitCode == Self.startAgain) == (second == SIGTERM), "\(result.output)")
    }

    @Test func aSignalBreaksOffAnEvaluationWhichTheNextRunDoes() throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      // Long enough to be met: 60 pairs, a micro-batch each.
      let settings = Self.settings.merging([
        "max_steps": 2, "eval_split": 0.75, "eval_on_start": true, "eval_steps": 1, "rows_per_micro_batch": 1,
        "logging_steps": 1,
      ]) { $1 }
      let whole = try runTraining(ranks: 2, settings: settings, in: scratch, output: "whole")
      let output = scratch.url.appending(path: "stopped")
      var result = CommandResult(exitCode: 0, standardOutput: "", standardError: "")
      // Each run is asked to stop as soon as it has logged a line; whatever it was doing then, the logs must come out equal.
      for attempt in 0..<8 {
        let before = try lines(output).count
        let job = try startTraining(ranks: 2, settings: settings, in: scratch, output: "stopped")
        while job.process.isRunning, try attempt < 6 && lines(output).count <= before { usleep(1000) }
        if attempt < 6, job.process.isRunning, let rank = try job.rankProcesses().first { kill(rank, SIGUSR1) }
        result = try job.wait()
        try #require([0, Self.startAgain].contains(result.exitCode), "\(result.output)")
        if result.exitCode == 0 { break }
      }
      #expect(result.exitCode == 0)
      #expect(try model(output) == model(whole.outputDirectory))
      let (found, expected) = (try untimed(output), try untimed(whole.outputDirectory))
      // A run that stops before its first step evaluates once more at its start.
      #expect(found.drop { $0.hasPrefix("0 ") } == expected.drop { $0.hasPrefix("0 ") })
    }

    /// As when a scheduler starts a run again that it has only lost sight of.
    @Test(arguments: [1000, 1]) func ofTwoStartsTheLaterOneGoesOn(saveSteps: Int) throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let output = scratch.url.appending(path: "out")
      func start() throws -> Command {
        try startTraining(
          ranks: 2, settings: Self.settings, overrides: ["max_steps=1000000", "save_steps=\(saveSteps)"], in: scratch)
      }
      let first = try start()
      while try lines(output).isEmpty {
        guard first.process.isRunning else {
          throw RunError(description: "ended too early:\n" + (try first.wait().output))
        }
        usleep(2000)
      }
      let second = try start()
      let result = try first.wait()
      #expect(result.exitCode == 76, "\(result.output)")
      for words in ["has taken over", output.path, "rank 0 is process"] {
        #expect(result.standardError.contains(words), "\(words) is not in \(result.output)")
      }
      #expect(second.process.isRunning)
      kill(try second.rankProcesses()[1], SIGUSR1)
      let stopped = try second.wait()
      #expect(stopped.exitCode == Self.startAgain, "\(stopped.output)")
    }

    @Test func anotherRunsFolderIsRefused() throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      _ = try runTraining(ranks: 1, settings: ["max_steps": 2, "save_steps": 1], in: scratch)
      for (setting, named) in [("learning_rate=2e-3", "learning_rate: 0.001"), ("beta=0.3", "beta: ")] {
        let other = try startTraining(
          ranks: 1, settings: ["max_steps": 2, "save_steps": 1], overrides: [setting], in: scratch
        ).wait()
        #expect(other.exitCode == 1)
        for words in [named, "--resume", "output_dir"] {
          #expect(other.standardError.contains(words), "\(words) is not in \(other.output)")
        }
      }
      // What changes no result may change.
      let same = try startTraining(
        ranks: 2, settings: ["max_steps": 2, "save_steps": 1],
        overrides: ["gradient_accumulation_steps=2", "zero_stage=0"],
        in: scratch
      ).wait()
      #expect(same.exitCode == 0, "\(same.output)")
    }

    private func lines(_ output: URL) throws -> [JSONValue] {
      guard let data = try? Data(contentsOf: output.appending(path: "metrics.jsonl")) else { return [] }
      return try String(decoding: data, as: UTF8.self).split(separator: "\n").map { try JSONValue(parsing: String($0)) }
    }

    private func model(_ output: URL) throws -> Data {
      try Data(contentsOf: output.appending(path: "model.safetensors"))
    }

    /// What is logged of steps and evaluations, without times and memory; the step first.
    private func untimed(_ output: URL) throws -> [String] {
      let names = metricNames + metricNames.map { "eval_" + $0 } + ["grad_norm", "learning_rate", "epoch"]
      return try lines(output).map { line in
        "\(line["step"]?.serialized() ?? "") "
          + names.compactMap { name in line[name].map { "\(name)=\($0.serialized())" } }.joined(separator: " ")
      }
    }
  }
}
