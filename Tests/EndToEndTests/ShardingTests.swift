import Foundation
import JSON
import Testing

extension EndToEndTests {
  /// Whether every rank holds all of AdamW's moments or a share must show in memory, and nowhere else.
  @Suite struct ShardingTests {
    static let exactly: [(name: String, tolerance: Tolerance)] =
      (metricNames + ["grad_norm", "learning_rate", "epoch"]).map { ($0, Tolerance(relative: 0, absolute: 0)) }
    static let nearly = exactly.map { ($0.name, Tolerance(relative: 1e-5, absolute: 1e-7)) }

    private func contents(_ run: URL, _ file: String) throws -> Data { try Data(contentsOf: run.appending(path: file)) }

    @Test(arguments: [1, 2, 3, 4]) func zeroStagesHaveTheSameTrajectory(ranks: Int) throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let settings: Settings = [
        "per_device_train_batch_size": 2, "gradient_accumulation_steps": 1, "save_steps": 5, "weight_decay": 0.1,
      ]
      func run(_ stage: Int) throws -> TrainingRun {
        try runTraining(
          ranks: ranks, settings: settings, overrides: ["zero_stage=\(stage)"], in: scratch, output: "stage-\(stage)")
      }
      let (whole, sharded) = (try run(0), try run(1))
      #expect(whole.steps.count == 10)
      try expectSameLogs(sharded.steps, whole.steps, Self.exactly, "\(ranks) ranks")
      for file in ["model.safetensors", "checkpoint-5/model.safetensors", "checkpoint-5/optimizer.safetensors"] {
        let same = try contents(sharded.outputDirectory, file) == contents(whole.outputDirectory, file)
        #expect(same, "\(file) of \(ranks) ranks differs")
      }
      #expect(sharded.result.standardError.contains("zero_stage 1") == (ranks > 1))
    }

    /// From a checkpoint of either stage, at any number of ranks, to either stage.
    @Test(arguments: [0, 1]) func aCheckpointDoesNotKnowWhoHeldTheMoments(stage: Int) throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let settings: Settings = [
        "per_device_train_batch_size": 1, "gradient_accumulation_steps": 12, "max_steps": 6, "save_steps": 3,
      ]
      func arguments(_ ranks: Int, _ stage: Int) -> [String] {
        ["gradient_accumulation_steps=\(12 / ranks)", "zero_stage=\(stage)"]
      }
      let whole = try runTraining(
        ranks: 2, settings: settings, overrides: arguments(2, stage), in: scratch, output: "whole")
      for (ranks, other) in [(2, 1 - stage), (2, stage), (1, 1), (3, stage), (4, 1 - stage)] {
        let name = "resumed-\(ranks)-\(other)"
        let copy = scratch.url.appending(path: name)
        try FileManager.default.copyItem(at: whole.outputDirectory, to: copy)
        try FileManager.default.removeItem(at: copy.appending(path: "checkpoint-6"))
        let resumed = try runTraining(
          ranks: ranks, settings: settings, overrides: arguments(ranks, other), resume: true, in: scratch, output: name)
        #expect(resumed.result.standardError.contains("continuing from"))
        try expectSameLogs(resumed.steps, whole.steps, ranks == 2 ? Self.exactly : Self.nearly, name)
        if ranks == 2 {
          for file in ["model.safetensors", "checkpoint-6/optimizer.safetensors"] {
            let same = try contents(copy, file) == contents(whole.outputDirectory, file)
            #expect(same, "\(file) of \(name) differs")
          }
        }
      }
    }

    /// There is room for the model but not for the moments, which the other ranks are sending just then.
    @Test func aCheckpointThatDoesNotFitIsAWarning() throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let job = try startTraining(ranks: 3, settings: ResumeTests.settings, in: scratch)
      let output = scratch.url.appending(path: "out")
      while !FileManager.default.fileExists(atPath: output.appending(path: "checkpoint-4").path) {
        try #require(job.process.isRunning, "the run ended without a checkpoint")
        usleep(2000)
      }
      let model = try contents(output, "checkpoint-4/model.safetensors").count
      for rank in try job.rankProcesses() {
        let limit = try Process.run(
          URL(filePath: "/usr/bin/prlimit"), arguments: ["--pid", "\(rank)", "--fsize=\(model * 3 / 2)"])
        limit.waitUntilExit()
        try #require(limit.terminationStatus == 0)
      }
      let result = try job.wait()
      #expect(result.exitCode == 0, "\(result.output)")
      #expect(result.standardError.contains("checkpoint-40 could not be saved"), "\(result.output)")
      #expect(result.standardError.contains("optimizer.safetensors"), "\(result.output)")
      #expect(try trainingLogs(in: output).count == 40)
      let names = try FileManager.default.contentsOfDirectory(atPath: output.path)
      #expect(names.contains("model.safetensors") && !names.contains("checkpoint-40"))
      #expect(!names.contains { $0.hasPrefix(".") }, "\(names)")
    }

    @Test func wireDTypeOnOneNodeSaysThatItHasNoEffect() throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let plain = try runTraining(ranks: 2, settings: ["max_steps": 3], in: scratch, output: "plain")
      let wired = try runTraining(
        ranks: 2, settings: ["max_steps": 3], overrides: ["wire_dtype=bf16"], in: scratch, output: "wired")
      #expect(wired.result.standardError.contains("note: wire_dtype has no effect"))
      #expect(!plain.result.standardError.contains("wire_dtype"))
      try expectSameLogs(wired.steps, plain.steps, Self.exactly, "bf16")
    }
  }
}
