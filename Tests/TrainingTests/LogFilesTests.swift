import Foundation
import JSON
import Testing
import Training

private func entry(_ step: Int, _ loss: Double = 1.5) -> LogEntry {
  LogEntry(step: step, epoch: Double(step) / 8, metrics: [.init("loss", loss), .init("rewards/chosen", -0.25)])
}

/// Collects what it is given; fails while told to.
private final class Recorder: MetricSink {
  struct Refusal: Error, CustomStringConvertible { var description: String { "disk full" } }
  let name = "recorder"
  var entries: [LogEntry] = []
  var fails = false

  func write(_ entry: LogEntry) throws {
    if fails { throw Refusal() }
    entries.append(entry)
  }
}

@Suite struct MetricsFileTests {
  @Test func oneObjectALineAtOnce() throws {
    try withTemporaryDirectory { directory in
      let path = directory + "/new/metrics.jsonl"
      let file = try MetricsFile(path: path, history: [])
      try file.write(entry(1))
      #expect(try text(path) == "{\"step\": 1, \"epoch\": 0.125, \"loss\": 1.5, \"rewards/chosen\": -0.25}\n")
      try file.write(entry(2, .nan))
      let second = try #require(text(path).split(separator: "\n").last)
      #expect(second == "{\"step\": 2, \"epoch\": 0.25, \"loss\": null, \"rewards/chosen\": -0.25}")
    }
  }

  @Test func aRunThatContinuesHasTheEntriesOfItsCheckpoint() throws {
    try withTemporaryDirectory { directory in
      let path = directory + "/metrics.jsonl"
      // Evaluated twice, and a later step that is done again; half a line.
      let left = [1, 2, 2, 3].map { entry($0).json.serialized() }
      try (left.joined(separator: "\n") + "\n{\"step\": 2, \"lo").write(toFile: path, atomically: true, encoding: .utf8)
      let history = [entry(1), entry(2, .nan)]
      let file = try MetricsFile(path: path, history: history)
      let kept = history.map { $0.json.serialized() + "\n" }.joined()
      #expect(try text(path) == kept)
      try file.write(entry(3, 9))
      #expect(try text(path) == kept + entry(3, 9).json.serialized() + "\n")
      #expect(try FileManager.default.contentsOfDirectory(atPath: directory) == ["metrics.jsonl"])
    }
  }

  @Test func aNewRunStartsAnew() throws {
    try withTemporaryDirectory { directory in
      let path = directory + "/metrics.jsonl"
      try "{\"step\": 1}\n".write(toFile: path, atomically: true, encoding: .utf8)
      _ = try MetricsFile(path: path, history: [])
      #expect(try text(path) == "")
    }
  }

  @Test func aFullDiskIsNamed() throws {
    let file = try AppendedFile(path: "/dev/full")
    #expect {
      try file.append([1, 2, 3])
    } throws: { "\($0)".hasPrefix("cannot write /dev/full: No space left on device") }
  }
}

@Suite struct MetricLogTests {
  @Test func aFailingSinkWarnsOnceAndTheOthersGoOn() {
    var warnings: [String] = []
    let (good, bad) = (Recorder(), Recorder())
    let log = MetricLog([bad, good]) { warnings.append($0) }
    log.add("unopened") { throw Recorder.Refusal() }
    bad.fails = true
    log.write(entry(1))
    log.write(entry(2))
    bad.fails = false
    log.write(entry(3))
    #expect(good.entries.map(\.step) == [1, 2, 3])
    #expect(bad.entries.map(\.step) == [3])
    #expect(
      warnings == [
        "unopened: disk full; training goes on without it",
        "recorder: disk full; training goes on, and writes it later if it can",
      ])
  }

  @Test func theConfigurationDecidesTheFiles() throws {
    try withTemporaryDirectory { (directory: String) throws in
      var configuration = TrainingConfiguration()
      configuration.outputDir = directory + "/out"
      MetricLog(warn: { Issue.record("\($0)") }).addFiles(of: configuration, resumingAt: nil, history: [])
      #expect(try FileManager.default.contentsOfDirectory(atPath: directory + "/out") == ["metrics.jsonl"])
      configuration.reportTo.tensorBoard = true
      let log = MetricLog(warn: { Issue.record("\($0)") })
      log.addFiles(of: configuration, resumingAt: nil, history: [])
      log.write(entry(1))
      log.finish()
      #expect(
        try FileManager.default.contentsOfDirectory(atPath: directory + "/out").sorted() == ["metrics.jsonl", "runs"])
    }
  }

  @Test func aDirectoryThatCannotBeWrittenIsAWarning() throws {
    try withTemporaryDirectory { directory in
      try "".write(toFile: directory + "/out", atomically: true, encoding: .utf8)
      var configuration = TrainingConfiguration()
      configuration.outputDir = directory + "/out"
      configuration.reportTo.tensorBoard = true
      var warnings: [String] = []
      let log = MetricLog { warnings.append($0) }
      log.addFiles(of: configuration, resumingAt: nil, history: [])
      log.write(entry(1))
      #expect(warnings.count == 2)
      #expect(warnings.first?.hasPrefix("metrics.jsonl: ") == true)
    }
  }
}

@Suite struct TrainerStateTests {
  @Test func transformersFileReadsAndHasTheSameMembers() throws {
    let bytes = try golden("trainer_state.json")
    let state = try TrainerState(parsing: bytes, file: "trainer_state.json")
    #expect(state.globalStep == 20 && state.maxSteps == 48 && state.epoch == 1.25 && state.numTrainEpochs == 3)
    #expect(state.evalSteps == 20 && state.saveSteps == 20 && state.loggingSteps == 10 && state.trainBatchSize == 4)
    #expect(state.numInputTokensSeen == 123456 && state.totalFlos == 1.5e15)
    #expect(state.logHistory.map(\.step) == [10, 20, 20])
    #expect(state.logHistory[0]["rewards/chosen"] == -0.125)
    #expect(state.logHistory[2]["eval_rewards/accuracies"] == 0.75)

    let theirs = try #require(JSONValue(parsing: bytes).object)
    let ours = try #require(state.json.object)
    #expect(ours.members.map(\.key) == theirs.members.map(\.key))
    for (a, b) in zip(ours.members, theirs.members) where a.key != "log_history" {
      #expect(a.value.serialized() == b.value.serialized())
    }
  }

  @Test func whatIsWrittenReadsBackEqual() throws {
    var state = TrainerState()
    state.globalStep = 3
    state.epoch = 1 / 3
    state.saveSteps = nil
    state.logHistory = [entry(1), entry(3)]
    #expect(try TrainerState(parsing: Array(state.text.utf8), file: "") == state)
    state.logHistory = [entry(2, .infinity)]
    let read = try TrainerState(parsing: Array(state.text.utf8), file: "")
    #expect(read.logHistory[0]["loss"]?.isNaN == true)
  }

  @Test(arguments: [
    ("{}", "s.json: global_step is missing"), ("[1]", "s.json: expected an object, found a list"),
    ("{\"global_step\": \"3\"}", "s.json: global_step: expected a whole number up to 2^53, found a string"),
    ("{\"global_step\": 3, \"log_history\": 1}", "s.json: log_history: expected a list, found a number"),
    ("{", "s.json: not valid JSON at line 1"),
  ])
  func damageIsNamed(_ text: String, message: String) {
    #expect {
      try TrainerState(parsing: Array(text.utf8), file: "s.json")
    } throws: { "\($0)".hasPrefix(message) }
  }
}
