import Foundation
import JSON
import Testing
import Training

/// A run of two ranks in its seventh step.
private func sample() -> RunStatus {
  var status = RunStatus()
  status.state = .training
  (status.host, status.pid, status.pidStart) = ("node-a", 4711, 99)
  (status.time, status.began, status.firstStep) = (1_800_000_100, 1_800_000_000, 3)
  (status.step, status.totalSteps, status.epoch) = (7, 20, 0.5)
  (status.loss, status.gradientNorm, status.stepSeconds) = (2.5, 0.75, 4)
  (status.pairsPerSecond, status.secondsLeft, status.skippedSteps) = (2, 52, 1)
  status.checkpoint = .init(step: 5, time: 1_800_000_080)
  status.log = LogEntry(step: 6, epoch: 0.4, metrics: [.init("loss", 2.625)])
  status.evaluation = LogEntry(step: 5, epoch: 0.3, metrics: [.init("eval_loss", 3)])
  status.ranks = [
    .init(host: "node-a", seconds: 3, peakMemoryGB: 1.5), .init(host: "node-b", seconds: 3.5, peakMemoryGB: 1.25),
  ]
  return status
}

@Suite struct RunStatusTests {
  @Test func readsBackWhatItWrote() throws {
    let status = sample()
    #expect(try RunStatus(json: JSONValue(parsing: status.json.serialized())) == status)
    let slowest = try #require(status.slowest)
    #expect(slowest == (1, 3.5, 3.25))
  }

  @Test(arguments: [
    "[]", "{}", #"{"state": "training"}"#, #"{"state": "dancing", "time": 1}"#,
    #"{"state": "training", "time": "now"}"#,
  ]) func whatIsNoStatusIsNone(_ text: String) throws { #expect(try RunStatus(json: JSONValue(parsing: text)) == nil) }

  @Test func membersOfOtherTypesAreUnknown() throws {
    let text = #"""
      {"state": "saving", "time": 5, "pid": -3, "step": "x", "total_steps": 1e400, "ranks": [7, {"host": 1}], "loss": []}
      """#
    // A number beyond all doubles is no JSON to the parser.
    #expect(throws: JSONError.self) { try JSONValue(parsing: text) }
    let status = try #require(
      RunStatus(json: JSONValue(parsing: text.replacingOccurrences(of: "1e400", with: "1.5"))))
    #expect(status.pid == 0 && status.step == 0 && status.totalSteps == 0 && status.loss == nil)
    #expect(status.ranks == [.init(host: ""), .init(host: "")] && status.slowest == nil)
  }
}

@Suite struct StatusWriterTests {
  private func figures(_ step: Int, loss: Double = 1) -> StepFigures {
    StepFigures(
      step: step, epoch: Double(step) / 4, loss: loss, gradientNorm: 0.5, pairs: 8, seconds: 2, skippedSteps: 0,
      rankSeconds: [1, 1.5])
  }

  @Test func writesAtStatesAndOtherwiseOnceASecond() throws {
    try withTemporaryDirectory { directory in
      var clock = 1000.0
      // Set back by an hour with every look at it: durations are those of the other clock all the same.
      var wallClock = 1_800_000_000.0
      var first = RunStatus()
      (first.totalSteps, first.ranks) = (10, [.init(host: "a"), .init(host: "b")])
      let writer = StatusWriter(
        outputDirectory: directory, prometheusFile: nil, status: first, journal: nil, warn: { Issue.record("\($0)") },
        now: {
          wallClock -= 3600
          return wallClock
        }, uptime: { clock })
      func onDisk() throws -> RunStatus {
        try #require(RunStatus(json: JSONValue(parsing: text(directory + "/status.json"))))
      }
      var seen = try onDisk()
      #expect(seen.state == .starting && seen.pid == Int(getpid()))
      clock = 1003
      writer.stepped(figures(1))
      seen = try onDisk()
      #expect(seen.step == 1 && seen.state == .training)
      #expect(seen.stepSeconds == 2 && seen.pairsPerSecond == 4 && seen.secondsLeft == 18)
      #expect(seen.time == wallClock)
      clock = 1003.5
      writer.stepped(figures(2))
      seen = try onDisk()
      #expect(seen.step == 1)
      writer.enter(.evaluating)
      seen = try onDisk()
      #expect(seen.step == 2 && seen.state == .evaluating)
      clock = 1009
      writer.stepped(figures(3, loss: .nan))
      seen = try onDisk()
      // 2, then a tenth of the way to 0.5, then of that to 5.5.
      let average = try #require(seen.stepSeconds)
      #expect(abs(average - 2.215) < 1e-9)
      #expect(seen.loss?.isNaN == true && seen.ranks[1].seconds == 1.5)
      writer.enter(.failed, message: "no more paper")
      seen = try onDisk()
      #expect(seen.state == .failed && seen.message == "no more paper" && seen.secondsLeft == nil)
      #expect(try FileManager.default.contentsOfDirectory(atPath: directory) == ["status.json"])
    }
  }

  @Test func checkpointsComeFromTheJournal() throws {
    try withTemporaryDirectory { directory in
      let journal = try RunJournal(path: directory + "/journal.jsonl", now: { 50 })
      let writer = StatusWriter(
        outputDirectory: directory, prometheusFile: nil, status: RunStatus(), journal: journal, warn: { _ in })
      journal.append("checkpoint_saved", step: 9)
      writer.enter(.training)
      #expect(writer.status.checkpoint == .init(step: 9, time: 50))
    }
  }

  @Test func aFileThatCannotBeWrittenIsOneWarning() throws {
    try withTemporaryDirectory { directory in
      var warnings: [String] = []
      let writer = StatusWriter(
        outputDirectory: directory, prometheusFile: directory + "/none/run.prom", status: RunStatus(), journal: nil,
        warn: { warnings.append($0) })
      writer.enter(.training)
      writer.enter(.finished)
      #expect(warnings.count == 1 && warnings[0].hasPrefix("warning: prometheus_file: cannot open "))
      #expect(warnings[0].contains("No such file or directory"))
      let written = try text(directory + "/status.json")
      #expect(written.contains("finished"))
    }
  }
}

@Suite struct PrometheusTextTests {
  /// One sample of the text format.
  private struct Sample {
    var name: String
    var labels: [String: String]
    var value: Double
  }

  /// A strict reading of the text format: HELP and TYPE once, before the samples of their metric, which stand together.
  private func parse(_ text: String) throws -> [Sample] {
    var samples: [Sample] = []
    var (described, typed): (Set<String>, Set<String>) = ([], [])
    var current = ""
    try #require(text.hasSuffix("\n"))
    for line in text.dropLast().split(separator: "\n", omittingEmptySubsequences: false) {
      let words = line.split(separator: " ", maxSplits: 3)
      if words.first == "#" {
        let name = String(words[2])
        if words[1] == "HELP" {
          try #require(!described.contains(name), "\(name) is described twice")
          described.insert(name)
          current = name
        } else {
          try #require(words[1] == "TYPE" && name == current && !typed.contains(name))
          typed.insert(name)
          try #require(["gauge", "counter"].contains(String(words[3])))
        }
        continue
      }
      let open = try #require(line.firstIndex(of: "{"))
      let name = String(line[..<open])
      try #require(name == current && typed.contains(name), "\(name) has no head")
      try #require(name.utf8.allSatisfy { "abcdefghijklmnopqrstuvwxyz_".utf8.contains($0) })
      var labels: [String: String] = [:]
      var rest = line[line.index(after: open)...]
      while rest.first != "}" {
        let equals = try #require(rest.firstIndex(of: "="))
        let key = String(rest[..<equals])
        rest = rest[rest.index(after: equals)...].dropFirst()
        var value = ""
        while let next = rest.popFirst(), next != "\"" {
          if next == "\\" {
            let escapes: [Character: Character] = ["n": "\n", "\\": "\\", "\"": "\""]
            let escaped = rest.popFirst().flatMap { escapes[$0] }
            value.append(try #require(escaped))
          } else {
            value.append(next)
          }
        }
        let before = labels.updateValue(value, forKey: key)
        try #require(before == nil)
        if rest.first == "," { rest.removeFirst() }
      }
      rest.removeFirst()
      try #require(rest.first == " ")
      let value = try #require(Double(String(rest.dropFirst())))
      samples.append(Sample(name: name, labels: labels, value: value))
    }
    return samples
  }

  @Test func everythingIsThereWithItsLabels() throws {
    var status = sample()
    status.ranks[1].host = "a \"b\"\\\nc"
    let samples = try parse(status.prometheusText(run: "out \"1\""))
    #expect(samples.allSatisfy { $0.labels["run"] == "out \"1\"" })
    func value(_ name: String, _ labels: [String: String] = [:]) -> Double? {
      samples.first { sample in
        sample.name == "orpo_dist_" + name && labels.allSatisfy { sample.labels[$0.key] == $0.value }
      }?.value
    }
    #expect(value("up") == 1 && value("step") == 7 && value("planned_steps") == 20 && value("loss") == 2.5)
    #expect(value("grad_norm") == 0.75 && value("pairs_per_second") == 2 && value("skipped_steps_total") == 1)
    #expect(value("step_seconds", ["rank": "0", "host": "node-a"]) == 3)
    #expect(value("step_seconds", ["rank": "1", "host": "a \"b\"\\\nc"]) == 3.5)
    #expect(value("peak_memory_bytes", ["rank": "0"]) == 1.5e9)
    #expect(value("last_checkpoint_step") == 5 && value("last_checkpoint_timestamp_seconds") == 1_800_000_080)
    #expect(value("last_update_timestamp_seconds") == 1_800_000_100 && value("eval_loss") == 3)
    #expect(value("state", ["state": "training"]) == 1 && value("state", ["state": "saving"]) == 0)
  }

  @Test func whatIsUnknownIsLeftOutAndWhatIsNotFiniteIsNamed() throws {
    let names = try parse(RunStatus().prometheusText(run: "x")).map(\.name)
    #expect(names.contains("orpo_dist_step") && !names.contains("orpo_dist_loss"))
    #expect(!names.contains("orpo_dist_step_seconds") && !names.contains("orpo_dist_last_checkpoint_step"))
    var status = sample()
    (status.state, status.loss, status.gradientNorm) = (.failed, .nan, .infinity)
    let lines = status.prometheusText(run: "x").split(separator: "\n")
    #expect(lines.contains("orpo_dist_up{run=\"x\"} 0"))
    #expect(lines.contains("orpo_dist_loss{run=\"x\"} NaN") && lines.contains("orpo_dist_grad_norm{run=\"x\"} +Inf"))
  }
}
