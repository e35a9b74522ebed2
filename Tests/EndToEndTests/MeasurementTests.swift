import Foundation
import JSON
import Testing

extension EndToEndTests {
  /// `bench`, `plan` and `trace: true`. What is measured has no expected value; that it belongs together has.
  @Suite struct MeasurementTests {
    @Test func theTimelineHoldsTheStepsOfAllRanks() throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let settings: Settings = ["max_steps": 4, "trace": true, "trace_steps": 2]
      let run = try runTraining(ranks: 2, settings: settings, in: scratch)
      let trace = try JSONValue(parsing: Data(contentsOf: run.outputDirectory.appending(path: "trace.json")))
      let events = try #require(trace["traceEvents"]?.array)
      let spans = events.filter { $0["ph"]?.string == "X" }
      for rank in [0, 1] {
        let names = spans.filter { $0["pid"]?.integer == rank }.compactMap { $0["name"]?.string }
        // The second and the third step.
        #expect(names.count { $0 == "step" } == 2, "rank \(rank)")
        for name in [
          "micro-batch", "layer forward", "layer backward", "qkv forward", "attention backward", "head forward",
          "optimizer",
        ] {
          #expect(names.contains(name), "rank \(rank) has no \(name)")
        }
      }
      let steps = spans.filter { $0["name"]?.string == "step" }.compactMap { $0["args"]?["step"]?.integer }
      #expect(steps.sorted() == [1, 1, 2, 2])
      #expect(trace["otherData"]?["dropped_spans"]?.integer == 0)

      // A trace changes nothing but the time.
      let plain = try runTraining(ranks: 2, settings: ["max_steps": 4], in: scratch, output: "plain")
      #expect(run.steps.map { $0["loss"]?.double } == plain.steps.map { $0["loss"]?.double })
      #expect(!FileManager.default.fileExists(atPath: plain.outputDirectory.appending(path: "trace.json").path))
    }

    @Test(arguments: [1, 2]) func aBenchDividesTheWholeStep(ranks: Int) throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let file = scratch.url.appending(path: "bench.json").path
      let model = goldenDirectory.appending(path: "llama").path
      let arguments = ["bench", "--model", model, "--steps", "2", "--json", file, "rows_per_micro_batch=128"]
      let result = try Command.mpirun([.init(count: ranks, arguments: arguments)], in: scratch.url).wait()
      try #require(result.exitCode == 0, "\(result.output)")
      for word in ["q k v", "gate up", "memory", "all-reduce", "attention", "optimizer", "pairs/s", "MFU"] {
        #expect(result.standardOutput.contains(word), "\(word) is missing in:\n\(result.standardOutput)")
      }
      let report = try JSONValue(parsing: Data(contentsOf: URL(fileURLWithPath: file)))
      #expect(report["ranks"]?.integer == ranks)
      let products = try #require(report["ceilings"]?["products"]?.array)
      #expect(!products.isEmpty && products.count.isMultiple(of: 5))
      #expect(products.allSatisfy { $0["gflops_by_rank"]?.array?.count == ranks })
      #expect(report["ceilings"]?["all_reduce"]?.array?.isEmpty == (ranks == 1))
      let step = try #require(report["step"])
      let seconds = try #require(step["step_seconds"]?.double)
      let parts = try #require(step["parts"]?.array)
      let sum = parts.reduce(0) { $0 + ($1["forward_seconds"]?.double ?? 0) + ($1["backward_seconds"]?.double ?? 0) }
      #expect(abs(sum - seconds) < 1e-6 * seconds)
      for part in parts where ["q k v", "attention", "head"].contains(part["part"]?.string) {
        #expect(part["gflops_per_rank"]?.double ?? 0 > 0, "\(part["part"]?.string ?? "")")
      }
      let left = try FileManager.default.contentsOfDirectory(atPath: scratch.url.path)
      #expect(left.filter { !$0.hasPrefix("output-") } == ["bench.json"])
    }

    /// The model's folder has nothing but config.json.
    @Test func aPlanNeedsNeitherWeightsNorData() throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let config = try String(contentsOf: goldenDirectory.appending(path: "llama/config.json"), encoding: .utf8)
      let model = try scratch.write(config, to: "model/config.json").deletingLastPathComponent()
      let yaml = try scratch.write("model_name_or_path: \(model.path)\nmax_length: 64\nmax_steps: 5\n", to: "run.yaml")
      let file = scratch.url.appending(path: "plan.json").path
      let arguments = [
        "plan", "--config", yaml.path, "--ranks", "6", "--hosts", "3", "--bandwidth", "1", "--json", file,
      ]
      let result = try Command.alone(arguments, in: scratch.url).wait()
      try #require(result.exitCode == 0, "\(result.output)")
      for word in ["6 ranks on 3 hosts", "ASSUMED", "memory", "communication", "pairs/s", "5 steps"] {
        #expect(result.standardOutput.contains(word), "\(word) is missing in:\n\(result.standardOutput)")
      }
      let plan = try JSONValue(parsing: Data(contentsOf: URL(fileURLWithPath: file)))
      let seconds = try #require(plan["step_seconds"])
      let parts = ["passes", "waiting", "optimizer", "communication_exposed"].compactMap { seconds[$0]?.double }
      let total = try #require(seconds["total"]?.double)
      #expect(parts.count == 4 && parts[0] > 0 && abs(parts.reduce(0, +) - total) < 1e-9 * max(total, 1))
      #expect(abs((plan["run_seconds"]?.double ?? 0) - 5 * total) < 1e-9)
    }

    @Test func aPlanReadsTheRunsOwnData() throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let settings = Settings.base(model: "llama", output: scratch.url.appending(path: "out"))
      let yaml = try scratch.write(settings.yaml, to: "run.yaml")
      let result = try Command.alone(["plan", "--config", yaml.path, "--ranks", "2"], in: scratch.url).wait()
      try #require(result.exitCode == 0, "\(result.output)")
      #expect(result.standardOutput.contains("training pairs"), "\(result.output)")
      #expect(!result.standardOutput.contains("ASSUMED"), "\(result.output)")
      #expect(!FileManager.default.fileExists(atPath: scratch.url.appending(path: "out").path))
    }
  }
}
