import Foundation
import JSON
import Testing

extension EndToEndTests {
  /// What a user gets wrong ends the job on all ranks, with a message that names the cause.
  @Suite struct FailureTests {
    static let good = #"{"prompt": "Hello?", "chosen": " How can I help?", "rejected": " Go away."}"#

    struct Mistake: CustomTestStringConvertible {
      var overrides: [String]
      /// What the message must hold.
      var named: [String]
      var testDescription: String { overrides.joined(separator: " ") }
    }

    @Test(arguments: [
      Mistake(overrides: ["learning_rat=0.1"], named: ["learning_rat", "learning_rate"]),
      Mistake(overrides: ["max_steps=many"], named: ["max_steps", "many"]),
      Mistake(overrides: ["beta=0.1", "orpo_alpha=0.2"], named: ["beta", "orpo_alpha"]),
      Mistake(overrides: ["model_name_or_path=/no/such/model"], named: ["/no/such/model"]),
      Mistake(overrides: ["train_file=/no/such/pairs.jsonl"], named: ["/no/such/pairs.jsonl"]),
      Mistake(overrides: ["loss_normalization=batch"], named: ["loss_normalization", "microbatch"]),
    ]) func aWrongSettingEndsTheJob(mistake: Mistake) throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let result = try startTraining(ranks: 2, overrides: mistake.overrides, in: scratch).wait(atMost: 60)
      #expect(result.exitCode != 0)
      for name in mistake.named { #expect(result.output.contains(name), "\(name) is not named in:\n\(result.output)") }
    }

    static let badRows = [
      #"{"prompt": "Hello?", "chosen": " Yes?""#, #"{"prompt": "Hello?", "chosen": " Yes?"}"#,
      #"{"prompt": "Hello?", "chosen": " Yes?", "rejected": 5}"#,
      #"{"prompt": "Hello?", "chosen": " Yes?", "rejected": " Yes?"}"#,
      #"{"prompt": "Hello?", "chosen": "", "rejected": " Yes?"}"#,
    ]

    @Test(arguments: badRows) func aBadRowEndsAStrictJob(row: String) throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let file = try scratch.write(
        [Self.good, Self.good, row, Self.good].joined(separator: "\n") + "\n", to: "rows.jsonl")
      let result = try startTraining(
        ranks: 2, settings: ["train_file": .string(file.path)], overrides: ["strict_data=true"], in: scratch
      ).wait(atMost: 60)
      #expect(result.exitCode != 0)
      #expect(result.output.contains("rows.jsonl:3"), "\(result.output)")
    }

    @Test func badRowsAreLeftOutAndNamed() throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let rows = Self.badRows.flatMap { [Self.good, $0] }
      let file = try scratch.write(rows.joined(separator: "\n") + "\n", to: "rows.jsonl")
      let settings: Settings = [
        "train_file": .string(file.path), "max_steps": -1, "num_train_epochs": 1, "gradient_accumulation_steps": 1,
      ]
      let run = try runTraining(ranks: 1, settings: settings, in: scratch)
      #expect(run.steps.count == Self.badRows.count)
      let all = Settings.base(model: "llama", output: scratch.url.appending(path: "data")).merging(settings) { $1 }
      let configuration = try scratch.write(all.yaml, to: "data.yaml")
      let report = try Command.alone(["data", "--config", configuration.path, "--dump", "100"], in: scratch.url).wait()
      #expect(report.exitCode == 0)
      for index in Self.badRows.indices {
        #expect(report.output.contains("rows.jsonl:\(2 * index + 2)"), "line \(2 * index + 2) in:\n\(report.output)")
      }
      #expect(try jsonLines(in: report.standardOutput).count { $0["chosen_input_ids"] != nil } == Self.badRows.count)
    }

    /// Rows that would command a terminal, or fill it, are shown as text.
    @Test func aReportOfRowsIsPlainText() throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let role = #"\u001b]0;owned\u0007\u009b2J"#
      let rows = [role, String(repeating: "x", count: 100_000)].map {
        #"{"prompt": [{"role": "\#($0)", "content": "Hi"}], "chosen": [{"role": "assistant", "content": "a"}], "#
          + #""rejected": [{"role": "assistant", "content": "b"}]}"#
      }
      // A file's rows have one layout: theirs is decided by the first good one.
      let conversations = try scratch.write(rows.joined(separator: "\n") + "\n", to: "conversations.jsonl")
      let good = try scratch.write(Self.good + "\n", to: "rows.jsonl")
      let settings = Settings.base(model: "llama", output: scratch.url.appending(path: "data")).merging([
        "train_file": [.string(good.path), .string(conversations.path)]
      ]) { $1 }
      let configuration = try scratch.write(settings.yaml, to: "data.yaml")
      let report = try Command.alone(["data", "--config", configuration.path], in: scratch.url).wait()
      #expect(report.exitCode == 0, "\(report.standardError)")
      #expect(report.standardOutput.contains(#"role '\u{1B}]0;owned\u{7}\u{9B}2J'"#), "\(report.standardOutput)")
      #expect(
        report.standardOutput.unicodeScalars.allSatisfy { $0 == "\n" || $0.properties.generalCategory != .control })
      #expect(report.standardOutput.utf8.count < 10_000)
    }

    /// A parameter that is not a number makes every loss one: all ranks skip the steps, say so, and give up in the end.
    @Test func aLossThatIsNotFiniteStopsTheJob() throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let model = scratch.url.appending(path: "model")
      try FileManager.default.copyItem(at: goldenDirectory.appending(path: "llama"), to: model)
      var bytes = try Data(contentsOf: model.appending(path: "model.safetensors"))
      // The last parameter of the file; 0x7FC00000 is NaN.
      bytes.replaceSubrange(bytes.count - 4..<bytes.count, with: [0x00, 0x00, 0xC0, 0x7F])
      try bytes.write(to: model.appending(path: "model.safetensors"))
      let result = try startTraining(
        ranks: 2, settings: ["max_steps": 30, "logging_steps": 4], overrides: ["model_name_or_path=\(model.path)"],
        in: scratch
      ).wait()
      #expect(result.exitCode != 0)
      #expect(result.standardError.contains("in 10 steps in a row"), "\(result.output)")
      let output = scratch.url.appending(path: "out")
      #expect(!FileManager.default.fileExists(atPath: output.appending(path: "model.safetensors").path))
      let metrics = String(decoding: try Data(contentsOf: output.appending(path: "metrics.jsonl")), as: UTF8.self)
      #expect(try jsonLines(in: metrics).compactMap { $0["skipped_steps"]?.integer } == [4, 8, 10])
    }
  }
}
