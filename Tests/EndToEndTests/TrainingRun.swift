import Foundation
import JSON
import Testing

/// Golden files of this module.
let goldenDirectory = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appending(path: "Golden")

/// A directory of its own for one test, which removes it in a `defer`.
struct ScratchDirectory {
  let url: URL

  init() throws {
    url = FileManager.default.temporaryDirectory.appending(path: "orpo-dist-tests-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
  }

  func remove() { try? FileManager.default.removeItem(at: url) }

  func write(_ text: String, to name: String) throws -> URL {
    let file = url.appending(path: name)
    try FileManager.default.createDirectory(at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
    try Data(text.utf8).write(to: file)
    return file
  }
}

/// Settings of a run: keys of the configuration file with their values.
typealias Settings = [String: JSONValue]

extension Settings {
  /// What all tests share: a tiny model in file order, every step logged, nothing written between.
  static func base(model: String, output: URL) -> Settings {
    [
      "model_name_or_path": .string(goldenDirectory.appending(path: model).path),
      "train_file": .string(goldenDirectory.appending(path: "pairs.jsonl").path),
      "output_dir": .string(output.path),
      "max_length": 256, "max_steps": 10, "learning_rate": 1e-3, "lr_scheduler_type": "linear", "weight_decay": 0.0,
      "shuffle": false, "logging_steps": 1, "save_steps": 100_000, "report_to": "none", "threads_per_rank": 1,
      "per_device_train_batch_size": 1, "gradient_accumulation_steps": 4,
    ]
  }

  /// JSON values are YAML values.
  var yaml: String { sorted { $0.key < $1.key }.map { "\($0.key): \($0.value.serialized())\n" }.joined() }
}

/// A training job that ended well, and what it logged.
struct TrainingRun {
  var result: CommandResult
  var outputDirectory: URL
  /// The training logs, one for each step, in order. A step that was logged twice, before and after a resume, counts as
  /// logged last.
  var steps: [JSONValue]
}

/// Trains a tiny model and reads what it logged.
///
/// - Parameters:
///   - settings: the configuration file, on top of `Settings.base`.
///   - overrides: `key=value` on the command line.
func runTraining(
  model: String = "llama", ranks: Int, settings: Settings = [:], overrides: [String] = [], resume: Bool = false,
  in scratch: ScratchDirectory, output name: String = "out"
) throws -> TrainingRun {
  let output = scratch.url.appending(path: name)
  let command = try startTraining(
    model: model, ranks: ranks, settings: settings, overrides: overrides, resume: resume, in: scratch, output: name)
  let result = try command.wait()
  guard result.exitCode == 0 else {
    throw RunError(description: "\(ranks) ranks ended with \(result.exitCode):\n\(result.output)")
  }
  return TrainingRun(result: result, outputDirectory: output, steps: try trainingLogs(in: output))
}

/// Starts a training job and returns at once.
func startTraining(
  model: String = "llama", ranks: Int, settings: Settings = [:], overrides: [String] = [], resume: Bool = false,
  in scratch: ScratchDirectory, output name: String = "out", environment: [String: String] = [:]
) throws -> Command {
  let output = scratch.url.appending(path: name)
  let all = Settings.base(model: model, output: output).merging(settings) { $1 }
  let file = try scratch.write(all.yaml, to: "\(name).yaml")
  let arguments = ["train", "--config", file.path] + (resume ? ["--resume"] : []) + overrides
  return try Command.mpirun(
    [.init(count: ranks, arguments: arguments)], in: scratch.url, environment: environment)
}

/// The lines of `metrics.jsonl` that are training logs, by step.
func trainingLogs(in output: URL) throws -> [JSONValue] {
  var logs: [Int: JSONValue] = [:]
  for record in try jsonLines(
    in: String(decoding: Data(contentsOf: output.appending(path: "metrics.jsonl")), as: UTF8.self))
  where record["loss"] != nil {
    logs[try #require(record["step"]?.integer, "no step in \(record.serialized())")] = record
  }
  return logs.sorted { $0.key < $1.key }.map(\.value)
}

/// The lines of a text that are JSON objects.
func jsonLines(in text: String) throws -> [JSONValue] {
  try text.split(separator: "\n").filter { $0.hasPrefix("{") }.map { try JSONValue(parsing: String($0)) }
}

func golden(_ path: String) throws -> String {
  String(decoding: try Data(contentsOf: goldenDirectory.appending(path: path)), as: UTF8.self)
}

// MARK: - Comparing logs

/// How far a logged value may be from the expected one.
struct Tolerance {
  var relative: Double
  var absolute: Double
}

/// Expects `found` to hold what `expected` holds, for every name in `tolerances`.
func expectSameLogs(
  _ found: [JSONValue], _ expected: [JSONValue], _ tolerances: [(name: String, tolerance: Tolerance)],
  _ context: String,
  sourceLocation: SourceLocation = #_sourceLocation
) throws {
  try #require(found.count == expected.count, "\(context): steps logged", sourceLocation: sourceLocation)
  for (index, (found, expected)) in zip(found, expected).enumerated() {
    for (name, tolerance) in tolerances {
      let found = try #require(found[name]?.double, "\(context): \(name) is not logged", sourceLocation: sourceLocation)
      let expected = try #require(
        expected[name]?.double, "\(context): \(name) is not expected", sourceLocation: sourceLocation)
      let allowed = max(tolerance.relative * abs(expected), tolerance.absolute)
      #expect(
        abs(found - expected) <= allowed, "\(context), step \(index + 1): \(name) is \(found), expected \(expected)",
        sourceLocation: sourceLocation)
    }
  }
}

/// Names of the metrics that depend on the loss and the model only.
let metricNames = [
  "loss", "nll_loss", "log_odds_ratio", "rewards/chosen", "rewards/rejected", "rewards/accuracies", "logps/chosen",
  "logps/rejected",
]
