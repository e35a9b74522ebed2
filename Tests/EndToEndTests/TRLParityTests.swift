import Foundation
import JSON
import Testing

extension EndToEndTests {
  /// Ten optimizer steps beside TRL's ORPOTrainer (Golden/generate.py).
  @Suite struct TRLParityTests {
    static let models = ["llama", "mistral"]

    /// Margins and log odds are differences of numbers many times their size: what counts is the error of those.
    static let tolerances: [(name: String, tolerance: Tolerance)] =
      metricNames.map { ($0, Tolerance(relative: 1e-4, absolute: 1e-6)) } + [
        ("rewards/margins", Tolerance(relative: 1e-4, absolute: 2e-6)),
        ("log_odds_chosen", Tolerance(relative: 1e-4, absolute: 2e-5)),
        ("grad_norm", Tolerance(relative: 1e-3, absolute: 1e-6)),
        ("learning_rate", Tolerance(relative: 1e-6, absolute: 1e-12)),
      ]

    /// TRL's batch of one, accumulated four times, in every split of those four pairs.
    struct Split: CustomTestStringConvertible {
      var ranks: Int
      var batch: Int
      var accumulation: Int
      var testDescription: String { "\(ranks) ranks, batch \(batch), accumulation \(accumulation)" }
    }

    @Test(
      arguments: models,
      [
        Split(ranks: 1, batch: 1, accumulation: 4), Split(ranks: 1, batch: 4, accumulation: 1),
        Split(ranks: 2, batch: 1, accumulation: 2), Split(ranks: 4, batch: 1, accumulation: 1),
      ]) func pairNormalizationIsTRLAtBatchOne(model: String, split: Split) throws
    {
      let (settings, steps) = try trajectory(model, "batch1")
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let run = try runTraining(
        model: model, ranks: split.ranks, settings: settings,
        overrides: [
          "per_device_train_batch_size=\(split.batch)", "gradient_accumulation_steps=\(split.accumulation)",
        ], in: scratch)
      try expectSameLogs(run.steps, steps, Self.tolerances, "\(model), \(split.testDescription)")
    }

    @Test(arguments: models) func microBatchNormalizationIsTRLAtBatchFour(model: String) throws {
      let (settings, steps) = try trajectory(model, "batch4")
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let run = try runTraining(
        model: model, ranks: 1, settings: settings, overrides: ["loss_normalization=microbatch"], in: scratch)
      try expectSameLogs(run.steps, steps, Self.tolerances, model)
    }

    /// A step's metrics are those of the model before its update, so evaluating its pairs gives the same.
    @Test(arguments: models) func evaluationOfTheFirstPairsIsTheFirstStep(model: String) throws {
      let (settings, steps) = try trajectory(model, "batch1")
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let lines = try golden("pairs.jsonl").split(separator: "\n").prefix(4).joined(separator: "\n") + "\n"
      let pairs = try scratch.write(lines, to: "first.jsonl")
      var all = Settings.base(model: model, output: scratch.url.appending(path: "out")).merging(settings) { $1 }
      all["eval_file"] = .string(pairs.path)
      all["per_device_eval_batch_size"] = 3
      let file = try scratch.write(all.yaml, to: "eval.yaml")
      for ranks in [1, 3] {
        let result = try Command.mpirun(
          [.init(count: ranks, arguments: ["eval", "--config", file.path])], in: scratch.url
        ).wait()
        try #require(result.exitCode == 0, "\(result.output)")
        let last = try #require(result.standardOutput.split(separator: "\n").last, "\(result.output)")
        let found = try JSONValue(parsing: String(last))
        for (name, tolerance) in Self.tolerances where name != "grad_norm" && name != "learning_rate" {
          let value = try #require(found["eval_" + name]?.double, "eval_\(name) is missing in \(last)")
          let expected = try #require(steps[0][name]?.double)
          #expect(
            abs(value - expected) <= max(tolerance.relative * abs(expected), tolerance.absolute),
            "\(ranks) ranks: \(name)")
        }
      }
    }

    @Test(arguments: models, ["pairs", "chat"]) func tokensAreTRLs(model: String, data: String) throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      var settings = Settings.base(model: model, output: scratch.url.appending(path: "out"))
      settings["train_file"] = .string(goldenDirectory.appending(path: "\(data).jsonl").path)
      let file = try scratch.write(settings.yaml, to: "data.yaml")
      let expected = try jsonLines(in: golden("\(model)/\(data)-tokens.jsonl"))
      let result = try Command.alone(["data", "--config", file.path, "--dump", "\(expected.count)"], in: scratch.url)
        .wait()
      try #require(result.exitCode == 0, "\(result.output)")
      let found = try jsonLines(in: result.standardOutput).filter { $0["chosen_input_ids"] != nil }
      try #require(found.count == expected.count)
      for (row, (found, expected)) in zip(found, expected).enumerated() {
        for name in ["chosen_input_ids", "rejected_input_ids"] {
          let (found, expected) = (try integers(found, name), try integers(expected, name))
          #expect(found == expected, "\(data).jsonl:\(row + 1): \(name)")
        }
        let promptLength = try #require(found["prompt_length"]?.integer, "prompt_length is missing")
        #expect(promptLength == expected["chosen_prompt_length"]?.integer, "\(data).jsonl:\(row + 1): prompt_length")
        // Told apart only where a token spans the boundary of one of the two.
        let rejectedPromptLength = found["rejected_prompt_length"]?.integer ?? promptLength
        #expect(
          rejectedPromptLength == expected["rejected_prompt_length"]?.integer,
          "\(data).jsonl:\(row + 1): prompt length of rejected")
      }
    }

    private func trajectory(_ model: String, _ run: String) throws -> (settings: Settings, steps: [JSONValue]) {
      let all = try JSONValue(parsing: golden("\(model)/trajectory.json"))
      let settings = try #require(all[run]?["settings"]?.object).members.map { ($0.key, $0.value) }
      return (Settings(uniqueKeysWithValues: settings), try #require(all[run]?["steps"]?.array))
    }

    private func integers(_ row: JSONValue, _ name: String) throws -> [Int] {
      try #require(row[name]?.array, "\(name) is missing").compactMap(\.integer)
    }
  }
}
