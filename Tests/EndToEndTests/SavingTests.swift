import Foundation
import JSON
import Testing

extension EndToEndTests {
  /// Checkpoints that cannot be written, or whose writing is cut short, while training goes on.
  @Suite struct SavingTests {
    private static let settings: Settings = [
      "max_steps": 40, "save_steps": 2, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 2,
      "shuffle": true,
    ]

    /// Files may no longer grow: each save is a warning, and training goes on with the earlier checkpoints as they were.
    @Test func whatCannotBeWrittenIsAWarning() throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let whole = try runTraining(ranks: 2, settings: Self.settings, in: scratch, output: "whole")
      let output = scratch.url.appending(path: "limited")
      let job = try startTraining(ranks: 2, settings: Self.settings, in: scratch, output: "limited")
      try wait(for: job) { try names(in: output).contains("checkpoint-2") }
      // Enough for logs, not for the model's 130 kB.
      try limitFiles(of: try #require(job.rankProcesses().first), to: 100_000)
      let saved = try names(in: output).filter { $0.hasPrefix("checkpoint-") }
      let result = try job.wait()
      #expect(result.exitCode != 0, "the final model could be written:\n\(result.output)")
      for words in ["warning: checkpoint-40 could not be saved", "training goes on", "model.safetensors"] {
        #expect(result.standardError.contains(words), "\(words) is not in \(result.output)")
      }
      #expect(try trainingLogs(in: output).count == 40)
      let left = try names(in: output)
      #expect(left.allSatisfy { !$0.hasPrefix(".checkpoint-") }, "\(left)")
      for name in saved { #expect(left.contains(name)) }
      #expect(!left.contains("checkpoint-40"))

      let resumed = try runTraining(ranks: 2, settings: Self.settings, in: scratch, output: "limited")
      #expect(resumed.result.output.contains("continuing from"), "\(resumed.result.output)")
      #expect(try model(output) == model(whole.outputDirectory))
    }

    /// Log lines that found no room are there in the end, in their order.
    @Test func linesWaitForRoom() throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let output = scratch.url.appending(path: "output")
      let job = try startTraining(ranks: 1, settings: Self.settings, in: scratch, output: "output")
      try wait(for: job) { try names(in: output).contains("checkpoint-2") }
      let rank = try #require(job.rankProcesses().first)
      try limitFiles(of: rank, to: 1000)
      try wait(for: job) { try job.hasSaid("metrics.jsonl: cannot write") }
      try limitFiles(of: rank, to: nil)
      let result = try job.wait()
      #expect(result.exitCode == 0, "\(result.output)")
      #expect(result.standardError.contains("training goes on, and writes it later if it can"), "\(result.output)")
      #expect(try trainingLogs(in: output).map { $0["step"]?.integer } == Array(1...40))
    }

    /// All ranks are killed while a checkpoint is being written.
    @Test func aCheckpointCutShortIsNone() throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let whole = try runTraining(ranks: 2, settings: Self.settings, in: scratch, output: "whole")
      let output = scratch.url.appending(path: "killed")
      let job = try startTraining(ranks: 2, settings: Self.settings, in: scratch, output: "killed")
      try wait(for: job) { try names(in: output).contains("checkpoint-2") }
      let ranks = try job.rankProcesses()
      try wait(for: job) { try names(in: output).contains { $0.hasPrefix(".checkpoint-") } }
      for rank in ranks { kill(rank, SIGKILL) }
      #expect(try job.wait().exitCode != 0)

      let resumed = try runTraining(ranks: 2, settings: Self.settings, in: scratch, output: "killed")
      #expect(resumed.result.output.contains("continuing from"), "\(resumed.result.output)")
      #expect(!resumed.result.output.contains("cannot be used"), "\(resumed.result.output)")
      let left = try names(in: output)
      #expect(left.allSatisfy { !$0.hasPrefix(".checkpoint-") }, "\(left)")
      #expect(try model(output) == model(whole.outputDirectory))
    }

    private func wait(for job: Command, until condition: () throws -> Bool) throws {
      while try !condition() {
        guard job.process.isRunning else { throw RunError(description: "ended too early:\n" + (try job.wait().output)) }
        usleep(200)
      }
    }

    /// - Parameter bytes: nil lifts the limit again.
    private func limitFiles(of process: pid_t, to bytes: Int?) throws {
      let command = Process()
      command.executableURL = URL(fileURLWithPath: "/usr/bin/env")
      command.arguments = [
        "prlimit", "--pid", "\(process)", "--fsize=\(bytes.map(String.init) ?? "unlimited"):unlimited",
      ]
      try command.run()
      command.waitUntilExit()
      try #require(command.terminationStatus == 0, "prlimit failed")
    }

    private func names(in output: URL) throws -> [String] {
      guard FileManager.default.fileExists(atPath: output.path) else { return [] }
      return try FileManager.default.contentsOfDirectory(atPath: output.path)
    }

    private func model(_ output: URL) throws -> Data {
      try Data(contentsOf: output.appending(path: "model.safetensors"))
    }
  }
}
