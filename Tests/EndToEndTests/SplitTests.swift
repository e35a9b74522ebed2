import Foundation
import JSON
import Testing

extension EndToEndTests {
  /// How the global batch is split over ranks, accumulation and batch size must not change the numbers.
  @Suite struct SplitTests {
    static let tolerances: [(name: String, tolerance: Tolerance)] =
      metricNames.map { ($0, Tolerance(relative: 1e-5, absolute: 1e-7)) }
      + [("grad_norm", Tolerance(relative: 1e-4, absolute: 0)), ("epoch", Tolerance(relative: 1e-9, absolute: 0))]

    @Test(arguments: ["pair", "token"]) func ranksAndAccumulationAreInterchangeable(normalization: String) throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let settings: Settings = ["loss_normalization": .string(normalization), "shuffle": true, "seed": 7]
      func run(_ ranks: Int) throws -> [JSONValue] {
        try runTraining(
          ranks: ranks, settings: settings, overrides: ["gradient_accumulation_steps=\(8 / ranks)"], in: scratch,
          output: "ranks-\(ranks)"
        ).steps
      }
      let alone = try run(1)
      #expect(alone.count == 10)
      for ranks in [2, 4, 8] {
        try expectSameLogs(run(ranks), alone, Self.tolerances, "\(ranks) ranks, \(normalization)")
      }
    }

    /// The number of rows computed at once is about memory, not about numbers.
    @Test func rowsPerMicroBatchChangeNothing() throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let settings: Settings = ["per_device_train_batch_size": 8, "gradient_accumulation_steps": 1]
      func run(_ rows: Int) throws -> [JSONValue] {
        try runTraining(
          ranks: 1, settings: settings, overrides: ["rows_per_micro_batch=\(rows)"], in: scratch, output: "rows-\(rows)"
        ).steps
      }
      try expectSameLogs(run(100), run(4096), Self.tolerances, "100 rows at once")
    }

    /// Ten pairs, eight for a step: the second step has two for four ranks.
    @Test func aShortLastBatchLeavesRanksIdle() throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let lines = try golden("pairs.jsonl").split(separator: "\n").prefix(10).joined(separator: "\n") + "\n"
      let settings: Settings = [
        "train_file": .string(try scratch.write(lines, to: "ten.jsonl").path), "max_steps": -1, "num_train_epochs": 2,
        "gradient_accumulation_steps": 1, "shuffle": true,
      ]
      let alone = try runTraining(
        ranks: 1, settings: settings, overrides: ["per_device_train_batch_size=8"], in: scratch, output: "alone")
      let four = try runTraining(
        ranks: 4, settings: settings, overrides: ["per_device_train_batch_size=2"], in: scratch, output: "four")
      #expect(alone.steps.count == 4)
      try expectSameLogs(four.steps, alone.steps, Self.tolerances, "four ranks")
    }

    /// Nothing divides evenly by these, neither pairs nor parameters.
    @Test func primeNumbersOfRanksChangeNothing() throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      func run(_ ranks: Int) throws -> [JSONValue] {
        try runTraining(
          ranks: ranks, settings: ["max_steps": 3, "shuffle": true],
          overrides: ["gradient_accumulation_steps=\(35 / ranks)"], in: scratch, output: "ranks-\(ranks)"
        ).steps
      }
      let alone = try run(1)
      for ranks in [5, 7] { try expectSameLogs(run(ranks), alone, Self.tolerances, "\(ranks) ranks") }
    }

    /// Three pairs to train on and two to evaluate, for five ranks.
    @Test func ranksMayOutnumberTheData() throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let lines = try golden("pairs.jsonl").split(separator: "\n")
      func file(_ lines: ArraySlice<Substring>, _ name: String) throws -> JSONValue {
        .string(try scratch.write(lines.joined(separator: "\n") + "\n", to: name).path)
      }
      let settings: Settings = [
        "train_file": try file(lines[..<3], "three.jsonl"), "eval_file": try file(lines[3..<5], "two.jsonl"),
        "max_steps": -1, "num_train_epochs": 2, "gradient_accumulation_steps": 1, "eval_steps": 1,
      ]
      func run(_ ranks: Int) throws -> (steps: [JSONValue], evaluations: [JSONValue]) {
        let run = try runTraining(
          ranks: ranks, settings: settings, overrides: ["per_device_train_batch_size=\(5 / ranks)"], in: scratch,
          output: "ranks-\(ranks)")
        let metrics = try Data(contentsOf: run.outputDirectory.appending(path: "metrics.jsonl"))
        return (
          run.steps, try jsonLines(in: String(decoding: metrics, as: UTF8.self)).filter { $0["eval_loss"] != nil }
        )
      }
      let (alone, five) = (try run(1), try run(5))
      #expect(alone.steps.count == 2 && alone.evaluations.count == 2)
      try expectSameLogs(five.steps, alone.steps, Self.tolerances, "five ranks")
      try expectSameLogs(
        five.evaluations, alone.evaluations, [("eval_loss", Tolerance(relative: 1e-5, absolute: 0))], "five ranks")
    }
  }
}
