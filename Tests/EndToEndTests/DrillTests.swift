import Foundation
import JSON
import Testing

extension EndToEndTests {
  /// Faults on purpose: each is noticed, named, and heals or ends the job.
  @Suite struct DrillTests {
    private static let settings: Settings = ["max_steps": 14, "save_steps": 4]

    private func run(
      _ drill: String?, ranks: Int = 3, overrides: [String] = [], in scratch: ScratchDirectory, output: String
    ) throws -> CommandResult {
      try startTraining(
        ranks: ranks, settings: Self.settings, overrides: overrides, in: scratch, output: output,
        environment: drill.map { ["ORPO_DIST_DRILL": $0] } ?? [:]
      ).wait()
    }

    private func model(_ scratch: ScratchDirectory, _ output: String) throws -> Data {
      try Data(contentsOf: scratch.url.appending(path: "\(output)/model.safetensors"))
    }

    @Test(arguments: ["nan-gradient@step=2,rank=1", "flip-gradient@step=11,rank=2"])
    func aGradientThatCannotBeIsComputedAgain(drill: String) throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let undisturbed = try run(nil, in: scratch, output: "undisturbed")
      let disturbed = try run(drill, in: scratch, output: "disturbed")
      try #require(undisturbed.exitCode == 0 && disturbed.exitCode == 0, "\(disturbed.output)")
      let rank = try #require(drill.last)
      #expect(disturbed.standardError.contains("was computed again"), "\(disturbed.output)")
      #expect(disturbed.standardError.contains("from the gradients of rank \(rank) of 3 on "), "\(disturbed.output)")
      #expect(try model(scratch, "disturbed") == model(scratch, "undisturbed"))
      let journal = try String(contentsOf: scratch.url.appending(path: "disturbed/journal.jsonl"), encoding: .utf8)
      #expect(journal.contains("step_retried"), "\(journal)")
    }

    @Test func aFlippedParameterIsNamedAndTheSameCommandGoesOn() throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let undisturbed = try run(nil, in: scratch, output: "undisturbed")
      try #require(undisturbed.exitCode == 0, "\(undisturbed.output)")
      // After the last parameters were given to all: one rank alone goes on with other ones.
      let disturbed = try run("flip-parameter@step=8,rank=2", in: scratch, output: "disturbed")
      #expect(disturbed.exitCode == 75, "\(disturbed.output)")
      #expect(disturbed.standardError.contains("rank 2 on "), "\(disturbed.output)")
      let status = try Command.alone(["status", scratch.url.appending(path: "disturbed").path], in: scratch.url).wait()
      #expect(status.output.contains("ranks held different parameters once"), "\(status.output)")
      #expect(status.output.contains("failed"), "\(status.output)")
      // Even when it is asked for again, a drill is done once.
      let rest = try run("flip-parameter@step=8,rank=2", in: scratch, output: "disturbed")
      #expect(rest.standardError.contains("is not done again"), "\(rest.output)")
      #expect(rest.exitCode == 0 && rest.output.contains("checkpoint-4"), "\(rest.output)")
      #expect(try model(scratch, "disturbed") == model(scratch, "undisturbed"))
    }

    @Test func aRankThatHangsIsNamed() throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let result = try run("hang@step=3,rank=1", overrides: ["watchdog_seconds=3"], in: scratch, output: "out")
      #expect(result.exitCode != 0)
      #expect(result.standardError.contains("rank 1 of 3 on "), "\(result.output)")
    }

    @Test func whatIsNoDrillIsRefused() throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      for text in ["flip-gradient", "flip@step=1,rank=0", "kill@step=0,rank=0", "kill@step=1,rank=x"] {
        let result = try run(text, ranks: 2, in: scratch, output: "out")
        #expect(result.exitCode == 1, "\(text)")
        #expect(result.standardError.contains("KIND@step=N,rank=R"), "\(result.output)")
      }
    }
  }
}
