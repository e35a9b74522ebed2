import Foundation
import JSON
import Testing

extension EndToEndTests {
  /// `reproducible: true`: the same bits on any number of ranks and threads, also across a resume on another number.
  @Suite struct ReproducibleTests {
    private static let settings: Settings = [
      "reproducible": true, "max_steps": 5, "save_steps": 2, "eval_split": 0.2, "eval_steps": 2, "shuffle": true,
      "weight_decay": 0.01,
    ]

    private func model(of run: TrainingRun) throws -> Data {
      try Data(contentsOf: run.outputDirectory.appending(path: "model.safetensors"))
    }

    /// Everything that is logged and does not measure time or memory.
    private func logs(of run: TrainingRun) throws -> [String] {
      let text = String(
        decoding: try Data(contentsOf: run.outputDirectory.appending(path: "metrics.jsonl")), as: UTF8.self)
      let names = ["step"] + metricNames + metricNames.map { "eval_" + $0 } + ["grad_norm", "learning_rate"]
      return try jsonLines(in: text).map { line in
        names.compactMap { name in line[name].map { "\(name)=\($0.serialized())" } }.joined(separator: " ")
      }
    }

    struct World: CustomTestStringConvertible {
      var ranks: Int
      var threads = 1
      var zeroStage = 1
      var testDescription: String { "\(ranks) ranks x \(threads) threads, zero_stage \(zeroStage)" }
    }

    /// 24 pairs a step, cut into 8 parts; the last step of the epoch is short.
    @Test(arguments: ["llama", "mistral"]) func bitsDoNotDependOnRanks(model name: String) throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      func run(_ world: World) throws -> TrainingRun {
        try runTraining(
          model: name, ranks: world.ranks, settings: Self.settings,
          overrides: [
            "gradient_accumulation_steps=\(24 / world.ranks)", "threads_per_rank=\(world.threads)",
            "zero_stage=\(world.zeroStage)",
          ], in: scratch, output: "ranks-\(world.ranks)-\(world.threads)-\(world.zeroStage)")
      }
      let alone = try run(World(ranks: 1))
      let (bits, lines) = (try model(of: alone), try logs(of: alone))
      #expect(lines.count > 5)
      for world in [
        World(ranks: 1, threads: 3), World(ranks: 2), World(ranks: 3, threads: 2), World(ranks: 4, zeroStage: 0),
        World(ranks: 8), World(ranks: 12),
      ] {
        let other = try run(world)
        #expect(try model(of: other) == bits, "\(world.testDescription): the model differs")
        #expect(try logs(of: other) == lines, "\(world.testDescription): the logs differ")
      }
    }

    /// Products in bf16, where the processor has them.
    @Test func bitsDoNotDependOnRanksInBF16() throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      func bits(_ ranks: Int, threads: Int) throws -> Data {
        try model(
          of: runTraining(
            ranks: ranks, settings: Self.settings,
            overrides: ["bf16=auto", "gradient_accumulation_steps=\(24 / ranks)", "threads_per_rank=\(threads)"],
            in: scratch, output: "bf16-\(ranks)"))
      }
      let alone = try bits(1, threads: 2)
      #expect(try bits(3, threads: 1) == alone)
      #expect(try bits(4, threads: 1) == alone)
    }

    @Test func bitsDoNotDependOnRanksAcrossAResume() throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let whole = try runTraining(
        ranks: 2, settings: Self.settings, overrides: ["gradient_accumulation_steps=12"], in: scratch, output: "whole")
      let output = whole.outputDirectory
      let bits = try model(of: whole)
      for checkpoint in ["checkpoint-4", "checkpoint-5"] {
        try? FileManager.default.removeItem(at: output.appending(path: checkpoint))
      }
      try FileManager.default.removeItem(at: output.appending(path: "model.safetensors"))
      let rest = try runTraining(
        ranks: 3, settings: Self.settings, overrides: ["gradient_accumulation_steps=8"], resume: true, in: scratch,
        output: "whole")
      #expect(rest.result.output.contains("checkpoint-2"), "\(rest.result.output)")
      #expect(try model(of: rest) == bits)
    }

    /// Without it the number of ranks shows in the last bits: the tests above would see it.
    @Test func otherwiseBitsDepend() throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      func bits(_ ranks: Int) throws -> Data {
        try model(
          of: runTraining(
            ranks: ranks, settings: Self.settings,
            overrides: ["reproducible=false", "gradient_accumulation_steps=\(24 / ranks)"], in: scratch,
            output: "plain-\(ranks)"))
      }
      #expect(try bits(1) != bits(3))
    }
  }
}
