import Foundation
import JSON
import Testing

extension EndToEndTests {
  /// A run as it is seen from outside, while it goes on and after.
  @Suite struct WatchingTests {
    private func look(_ arguments: [String], in scratch: ScratchDirectory) throws -> String {
      let result = try Command.alone(arguments, in: scratch.url).wait(atMost: 60)
      try #require(result.exitCode == 0, "\(arguments): \(result.output)")
      return result.standardOutput
    }

    /// More steps than anybody waits for.
    private let endless: Settings = ["max_steps": 10_000_000, "logging_steps": 50]

    /// What `status` says once the first step is done.
    private func whileTraining(_ output: String, in scratch: ScratchDirectory) throws -> JSONValue {
      let deadline = Date(timeIntervalSinceNow: 60)
      while Date() < deadline {
        usleep(200_000)
        guard FileManager.default.fileExists(atPath: output + "/status.json") else { continue }
        let seen = try JSONValue(parsing: look(["status", output, "--json"], in: scratch))
        if seen["status"]?["step"]?.integer ?? 0 > 0 { return seen }
      }
      throw RunError(description: "no step was done in a minute")
    }

    @Test func aFinishedRunIsTold() throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let prometheus = scratch.url.appending(path: "run.prom")
      let settings: Settings = [
        "max_steps": 6, "eval_steps": 3, "save_steps": 4, "eval_split": 0.25,
        "prometheus_file": .string(prometheus.path),
      ]
      let run = try runTraining(ranks: 2, settings: settings, in: scratch)
      let output = run.outputDirectory.path

      let seen = try JSONValue(parsing: look(["status", output, "--json", "--verify"], in: scratch))
      #expect(seen["status"]?["state"]?.string == "finished" && seen["health"]?.string == "ok")
      #expect(seen["status"]?["step"]?.integer == 6 && seen["status"]?["total_steps"]?.integer == 6)
      #expect(seen["loss_curve"]?.array?.count == 6 && seen["last_evaluation"]?["step"]?.integer == 6)
      let logged = try #require(run.steps.last?["loss"]?.double)
      #expect(seen["status"]?["loss"]?.double == logged)
      let ranks = try #require(seen["status"]?["ranks"]?.array)
      #expect(ranks.count == 2 && ranks.allSatisfy { ($0["seconds"]?.double ?? 0) > 0 })
      let peaks = ranks.compactMap { $0["peak_memory_gb"]?.double }
      #expect(peaks.count == 2 && peaks.max() == run.steps.last?["peak_memory_gb"]?.double)
      let checkpoint = try #require(seen["checkpoints"]?.array?.first)
      #expect(checkpoint["name"]?.string == "checkpoint-6" && checkpoint["verified"]?.bool == true)
      #expect(seen["events"]?["checkpoint_saved"]?.integer == 2)
      #expect(seen["status"]?["last_checkpoint"]?["step"]?.integer == 6)
      #expect(seen["events"]?["started"]?.integer == 1 && seen["events"]?["finished"]?.integer == 1)

      let text = try look(["status", output], in: scratch)
      for words in ["finished, step 6 of 6 (100 %)", "checkpoint-6", "ranks       2 on 1 host", "health      finished"]
      {
        #expect(text.contains(words), "\(words) is not in:\n\(text)")
      }
      _ = try look(["report", output + "/", "--output", scratch.url.path + "/page.html"], in: scratch)
      let page = String(decoding: try Data(contentsOf: scratch.url.appending(path: "page.html")), as: UTF8.self)
      // The data report and the configuration are there.
      for words in [
        "<svg", "checkpoint-6", "60 training pairs, 20 held out", "pairs.jsonl", "<td>eval_steps</td><td>3</td>",
      ] {
        #expect(page.contains(words), "\(words)")
      }
      let figures = String(decoding: try Data(contentsOf: prometheus), as: UTF8.self).split(separator: "\n")
      #expect(figures.contains("orpo_dist_step{run=\"out\"} 6") && figures.contains("orpo_dist_up{run=\"out\"} 0"))
      #expect(figures.count { $0.hasPrefix("orpo_dist_step_seconds{") } == 2)
    }

    @Test func aRunThatLivesAndOneThatDiedAreToldApart() throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let output = scratch.url.appending(path: "out").path
      let command = try startTraining(ranks: 2, settings: endless, in: scratch)
      let alive = try whileTraining(output, in: scratch)
      #expect(alive["status"]?["state"]?.string == "training" && alive["process_found"]?.bool == true)
      #expect(alive["remarks"]?.array?.first?["text"]?.string?.hasPrefix("alive") == true)

      let rankZero = try #require(alive["status"]?["pid"]?.integer)
      #expect(try command.rankProcesses().map(Int.init).contains(rankZero))
      for process in try command.rankProcesses() { kill(process, SIGKILL) }
      _ = try command.wait()
      let dead = try JSONValue(parsing: look(["status", output, "--json"], in: scratch))
      #expect(dead["health"]?.string == "alarm" && dead["process_found"]?.bool == false)
      #expect(try look(["status", output], in: scratch).contains("alarm: died: process \(rankZero) is gone"))
    }

    @Test func aRunThatWasAskedToStopWaitsForItsNextStart() throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let output = scratch.url.appending(path: "out").path
      let command = try startTraining(ranks: 2, settings: endless, in: scratch)
      _ = try whileTraining(output, in: scratch)
      kill(try #require(command.rankProcesses().last), SIGUSR1)
      #expect(try command.wait().exitCode == 75)
      let seen = try JSONValue(parsing: look(["status", output, "--json"], in: scratch))
      #expect(seen["status"]?["state"]?.string == "stopped" && seen["health"]?.string == "note")
      for event in ["signal", "checkpoint_saved", "stopped"] {
        #expect(seen["events"]?[event]?.integer == 1, "\(event)")
      }
      let checkpoint = try #require(seen["checkpoints"]?.array?.first)
      #expect(checkpoint["step"]?.integer == seen["status"]?["step"]?.integer)
    }

    @Test func aRunThatFailsSaysWhy() throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let output = scratch.url.appending(path: "out").path
      // Far too high a rate: loss or gradient is soon not finite, and the run gives up.
      let command = try startTraining(
        ranks: 2, settings: ["max_steps": 1000, "learning_rate": 1e30, "lr_scheduler_type": "constant"], in: scratch)
      #expect(try command.wait().exitCode != 0)
      let seen = try JSONValue(parsing: look(["status", output, "--json"], in: scratch))
      #expect(seen["status"]?["state"]?.string == "failed" && seen["health"]?.string == "alarm")
      #expect(seen["status"]?["message"]?.string?.contains("not finite") == true)
      #expect((seen["status"]?["skipped_steps"]?.integer ?? 0) > 1 && seen["events"]?["failed"]?.integer == 1)
    }
  }
}
