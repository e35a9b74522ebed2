import Foundation
import JSON
import Testing

extension EndToEndTests {
  /// What the commands say and write.
  @Suite struct CommandTests {
    struct Line: CustomTestStringConvertible {
      var arguments: [String]
      var ranks = 1
      var exitCode: Int32 = 0
      /// What standard output (of a good end) or standard error (of a bad one) must hold.
      var says: [String]
      var testDescription: String { "\(ranks) ranks: " + arguments.joined(separator: " ") }
    }

    @Test(arguments: [
      Line(arguments: ["--help"], says: ["USAGE: orpo-dist", "train", "eval", "generate", "data", "mpirun"]),
      Line(arguments: ["--version"], ranks: 2, says: ["."]),
      Line(arguments: ["train", "--help"], ranks: 2, says: ["--config", "--resume", "key=value"]),
      Line(arguments: ["eval", "--help"], says: ["--config"]),
      Line(arguments: ["data", "--help"], says: ["--dump"]),
      Line(
        arguments: ["generate", "--help"],
        says: ["--model", "--prompt", "--max-new-tokens", "--temperature", "--top-p", "--seed", "--raw"]),
      Line(arguments: ["bench", "--help"], says: ["--config", "--model", "--json", "--steps", "GFLOP/s"]),
      Line(arguments: ["plan", "--help"], says: ["--ranks", "--hosts", "--bandwidth", "--threads", "--json"]),
      Line(arguments: ["status", "--help"], says: ["OUTPUT_DIR", "--json", "--verify"]),
      Line(arguments: ["report", "--help"], says: ["OUTPUT_DIR", "--output"]),
      Line(arguments: ["status"], exitCode: 64, says: ["output-dir"]),
      Line(arguments: ["status", "no-such"], exitCode: 1, says: ["no-such: no such folder"]),
      Line(arguments: ["report", "no-such"], exitCode: 1, says: ["no-such: no such folder"]),
      Line(arguments: ["bench", "--steps", "0"], exitCode: 64, says: ["--steps"]),
      Line(arguments: ["bench", "--model", "no-such"], ranks: 2, exitCode: 1, says: ["no-such"]),
      Line(arguments: ["plan", "--config", "x.yaml"], exitCode: 64, says: ["--ranks"]),
      Line(arguments: ["plan", "--config", "x.yaml", "--ranks", "2", "--hosts", "3"], exitCode: 64, says: ["--hosts"]),
      Line(arguments: ["frobnicate"], exitCode: 64, says: ["frobnicate", "train, eval"]),
      Line(arguments: ["train"], exitCode: 64, says: ["--config"]),
      Line(arguments: ["train"], ranks: 2, exitCode: 1, says: ["--config"]),
      Line(arguments: ["train", "--config", "x.yaml", "--speed"], exitCode: 64, says: ["--speed"]),
      Line(arguments: ["train", "--config", "no-such.yaml"], ranks: 2, exitCode: 1, says: ["no-such.yaml"]),
      Line(arguments: ["data", "--config", "x.yaml", "--dump=-1"], exitCode: 64, says: ["--dump"]),
      Line(arguments: ["generate", "--model", "no-such", "--prompt", "Hi"], exitCode: 1, says: ["no-such"]),
      Line(arguments: ["generate", "--model", "m", "--prompt", "Hi", "--top-p", "2"], exitCode: 64, says: ["--top-p"]),
    ]) func whatIsSaidIsSaidOnce(line: Line) throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let command =
        line.ranks == 1
        ? try Command.alone(line.arguments, in: scratch.url)
        : try Command.mpirun([.init(count: line.ranks, arguments: line.arguments)], in: scratch.url)
      let result = try command.wait(atMost: 60)
      #expect((result.exitCode == 0) == (line.exitCode == 0), "\(result.output)")
      if line.ranks == 1 { #expect(result.exitCode == line.exitCode) }
      let text = line.exitCode == 0 ? result.standardOutput : result.standardError
      for words in line.says { #expect(text.contains(words), "\(words) is not in:\n\(text)") }
      if line.exitCode != 0 {
        #expect(text.components(separatedBy: "orpo-dist: ").count == 2, "one message expected:\n\(text)")
      } else {
        let lines = text.split(separator: "\n")
        #expect(lines.count { $0 == lines.first } == 1, "said by one rank only:\n\(text)")
      }
    }

    @Test func aRunLeavesAFolderThatTrainsAndEvaluates() throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let settings: Settings = [
        "max_steps": 6, "logging_steps": 4, "eval_steps": 3, "save_steps": 2, "save_total_limit": 2,
        "report_to": "tensorboard", "eval_split": 0.25,
      ]
      let run = try runTraining(ranks: 2, settings: settings, in: scratch)
      let names = try FileManager.default.contentsOfDirectory(atPath: run.outputDirectory.path).sorted()
      #expect(
        names == [
          "chat_template.jinja", "checkpoint-4", "checkpoint-6", "config.json", "data_report.json", "journal.jsonl",
          "metrics.jsonl", "model.safetensors", "orpo_config.yaml", "owner.json", "runs", "status.json",
          "tokenizer.json",
          "tokenizer_config.json", "trainer_state.json",
        ])
      // The last window is short: steps 5 and 6.
      #expect(run.steps.compactMap { $0["step"]?.integer } == [4, 6])
      let lines = try jsonLines(in: text(run.outputDirectory, "metrics.jsonl"))
      let evaluations = lines.filter { $0["eval_loss"] != nil }
      #expect(evaluations.compactMap { $0["step"]?.integer }.suffix(2) == [3, 6])
      for name in metricNames { #expect(evaluations.allSatisfy { $0["eval_" + name]?.double != nil }, "eval_\(name)") }
      let state = try JSONValue(parsing: text(run.outputDirectory, "trainer_state.json"))
      #expect(state["global_step"]?.integer == 6)
      #expect(state["log_history"]?.array?.count == lines.count)

      // The resolved configuration is a configuration; the model evaluates to what the run said last.
      let file = run.outputDirectory.appending(path: "orpo_config.yaml").path
      let result = try Command.alone(
        ["eval", "--config", file, "model_name_or_path=\(run.outputDirectory.path)"], in: scratch.url
      ).wait()
      try #require(result.exitCode == 0, "\(result.output)")
      let last = try JSONValue(parsing: #require(result.standardOutput.split(separator: "\n").last.map(String.init)))
      let found = try #require(last["eval_loss"]?.double)
      let logged = try #require(evaluations.last?["eval_loss"]?.double)
      #expect(abs(found - logged) < 1e-6 * abs(logged))
    }

    @Test func whatWouldDestroySomethingIsRefused() throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let model = scratch.url.appending(path: "model")
      try FileManager.default.createDirectory(at: model, withIntermediateDirectories: true)
      for name in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        try FileManager.default.copyItem(
          at: goldenDirectory.appending(path: "llama/\(name)"), to: model.appending(path: name))
      }
      let link = scratch.url.appending(path: "link")
      try FileManager.default.createSymbolicLink(at: link, withDestinationURL: model)
      let before = try Data(contentsOf: model.appending(path: "config.json"))
      let onto = try startTraining(
        ranks: 2, overrides: ["model_name_or_path=\(model.path)", "output_dir=\(link.path)"], in: scratch
      ).wait()
      #expect(onto.exitCode != 0)
      #expect(onto.standardError.contains("output_dir"), "\(onto.output)")
      #expect(try Data(contentsOf: model.appending(path: "config.json")) == before)
      #expect(try FileManager.default.contentsOfDirectory(atPath: model.path).count == 4)
    }

    @Test func generationIsReproducible() throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      func reply(_ arguments: String...) throws -> String {
        let model = ["generate", "--model", goldenDirectory.appending(path: "llama").path, "--prompt", "Hello"]
        let result = try Command.alone(model + ["--max-new-tokens", "24"] + arguments, in: scratch.url).wait()
        try #require(result.exitCode == 0, "\(result.output)")
        return result.standardOutput
      }
      let likeliest = try reply()
      #expect(try reply() == likeliest)
      #expect(try reply("--temperature", "0", "--seed", "5") == likeliest)
      #expect(try reply("--raw") != likeliest)
      let drawn = try reply("--temperature", "1.5", "--seed", "5", "--threads", "1")
      #expect(try reply("--temperature", "1.5", "--seed", "5", "--threads", "2") == drawn)
      #expect(try reply("--temperature", "1.5", "--seed", "6") != drawn)
      // So little probability is one token.
      #expect(try reply("--temperature", "1.5", "--seed", "5", "--top-p", "0.0001") == likeliest)
    }

    private func text(_ directory: URL, _ name: String) throws -> String {
      String(decoding: try Data(contentsOf: directory.appending(path: name)), as: UTF8.self)
    }
  }
}
