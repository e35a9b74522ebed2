import Foundation
import JSON
import Testing
import Training

private func write(_ text: String, _ path: String) throws {
  try text.write(toFile: path, atomically: true, encoding: .utf8)
}

/// The status of a run of four ranks, heard of at 1000.
private func status(_ state: RunStatus.State = .training, host: String = "node-a") -> RunStatus {
  var status = RunStatus()
  (status.state, status.host, status.pid, status.pidStart, status.time) = (state, host, 4711, 99, 1000)
  (status.step, status.totalSteps, status.stepSeconds, status.loss) = (50, 200, 2, 1.5)
  status.ranks = [1, 1, 1, 1.1].enumerated().map { .init(host: "node-\($0)", seconds: $1) }
  return status
}

private func folder(_ directory: String, _ status: RunStatus, now: Double) throws -> RunFolder {
  try write(status.json.serialized(), directory + "/status.json")
  return try RunFolder(path: directory, now: now)
}

@Suite struct RunFolderTests {
  @Test func aFolderWithoutARunIsAnErrorThatSaysSo() throws {
    #expect { try RunFolder(path: "/no/such") } throws: { "\($0)".hasPrefix("/no/such: no such folder") }
    #expect { try RunFolder(path: "/etc/hostname") } throws: { "\($0)".contains("is a file, not a folder") }
    try withTemporaryDirectory { directory in
      _ = #expect { try RunFolder(path: directory) } throws: { "\($0)".contains("holds no run") }
    }
  }

  @Test func damagedFilesAreNamedAndTheRestIsRead() throws {
    try withTemporaryDirectory { directory in
      try write(#"{"state": "trai"#, directory + "/status.json")
      let long = String(repeating: "x", count: 3 << 20)
      try write(
        """
        {"step": 1, "loss": 3.0, "eval_x": 1}
        not json
        {"step": 2, "loss": "\(long)"}
        {"step": 3, "loss": 2.0, "\(String(repeating: "[", count: 5000))

        [1, 2]
        {"step": 4, "loss": 1.0}
        {"step": 5, "lo
        """, directory + "/metrics.jsonl")
      try write(
        "{\"time\": 5, \"event\": \"started\", \"step\": 0}\n{\"event\": 3}\n", directory + "/journal.jsonl")
      #expect(mkfifo(directory + "/data_report.json", 0o600) == 0)
      try FileManager.default.createDirectory(
        atPath: directory + "/orpo_config.yaml", withIntermediateDirectories: false)
      for name in ["checkpoint-3", "checkpoint-99999999999999999999", "checkpoint--1", "checkpoint-03"] {
        try FileManager.default.createDirectory(atPath: directory + "/" + name, withIntermediateDirectories: false)
      }
      let folder = try RunFolder(path: directory, verify: true)
      #expect(folder.status == nil && folder.lastLog?.step == 4 && folder.journal.starts == 1)
      #expect(folder.curves["loss"]?.points.map(\.mean) == [3, 1])
      #expect(folder.checkpoints.map(\.name) == ["checkpoint-3"] && folder.checkpoints[0].defect != nil)
      let problems = folder.problems.joined(separator: "\n")
      #expect(problems.contains("status.json: not valid JSON"))
      #expect(problems.contains("metrics.jsonl: 4 lines are left out, the first is line 2"))
      #expect(problems.contains("cannot read \(directory)/data_report.json"))
      #expect(problems.contains("cannot read \(directory)/orpo_config.yaml: Is a directory"))
      #expect(folder.problems.count == 4)
      // Every kind of output can be made of it.
      let health = RunHealth(folder)
      #expect(health.level == .warning)
      #expect(StatusText(folder, health: health, columns: 80, isUnicode: true).text.contains("loss"))
      #expect(try JSONValue(parsing: folder.jsonText(health))["problems"]?.array?.count == 4)
      #expect(HTMLReport(folder, health: health).text.contains("</html>"))
    }
  }

  static let extremes: [[(Int, Double)]] = [
    [(9_223_372_036_854_775_807, 1)], [(9_007_199_254_740_993, 1)], [(1, 1e99), (9_223_372_036_854_775_807, -1e99)],
    [(0, 1e-300), (1, 0)], [(1, 1e16), (2, 1e16 + 2)],
  ]

  @Test(arguments: extremes) func numbersAtTheEndsOfTheirRangesAreDrawn(_ points: [(Int, Double)]) throws {
    try withTemporaryDirectory { directory in
      let lines = points.map { "{\"step\": \($0.0), \"loss\": \($0.1)}\n" }
      try write(lines.joined(), directory + "/metrics.jsonl")
      try write(
        #"{"state": "training", "time": -1e300, "step": 9223372036854775807, "total_steps": 1, "step_seconds": 1e308}"#,
        directory + "/status.json")
      let folder = try RunFolder(path: directory)
      let health = RunHealth(folder)
      #expect(folder.curves["loss"]?.points.count == points.count)
      let text = StatusText(folder, health: health, columns: 80, isUnicode: true).text
      #expect(text.contains("step 0") || text.contains("step 1") || text.contains("step 9"))
      let page = HTMLReport(folder, health: health).text
      #expect(page.contains("<svg") && !page.contains("\"nan"))
    }
  }

  @Test func aFileOfAnySizeIsReadInBoundedMemory() throws {
    try withTemporaryDirectory { directory in
      let path = directory + "/status.json"
      try write("", path)
      // Sixteen gigabytes that take no room on the disk.
      #expect(truncate(path, 1 << 34) == 0)
      let metrics = try AppendedFile(path: directory + "/metrics.jsonl")
      for step in 1...5000 { try metrics.append(Array("{\"step\": \(step), \"loss\": \(step % 2)}\n".utf8)) }
      let folder = try RunFolder(path: directory)
      #expect(folder.problems.count == 1 && folder.problems[0].contains("bytes are too many"))
      let curve = try #require(folder.curves["loss"])
      #expect(curve.points.count <= 1024 && curve.points.reduce(0) { $0 + $1.count } == 5000)
      #expect(curve.points.allSatisfy { $0.least == 0 && $0.most == 1 && $0.mean == 0.5 })
      #expect(curve.last?.step == 5000)
    }
  }

  @Test func nothingFromAFileCommandsTheTerminalOrThePage() throws {
    try withTemporaryDirectory { directory in
      let evil = "\u{1B}]0;x\u{07}\u{9B}2J\n<script>alert(1)</script>\u{202E}\"'&"
      var status = status(.failed, host: evil)
      status.message = evil
      status.ranks[0].host = evil
      let line: JSONValue = ["time": 900, "event": .string("step_retried"), "step": 3, "why": .string(evil)]
      try write(line.serialized() + "\n", directory + "/journal.jsonl")
      try write("seed: 1\nname: \(evil)\n", directory + "/orpo_config.yaml")
      let data: JSONValue = [
        "training": [
          "files": [.string(evil)],
          "left_out": [
            ["reason": .string(evil), "count": 1, "rows": [["file": .string(evil), "reason": .string(evil)]]]
          ],
        ]
      ]
      try write(data.serialized(), directory + "/data_report.json")
      let folder = try folder(directory, status, now: 1001)
      let health = RunHealth(folder)
      let text = StatusText(folder, health: health, columns: 80, isUnicode: true).text
      for output in [text, HTMLReport(folder, health: health).text] {
        let commands = output.unicodeScalars.filter {
          $0 != "\n" && [.control, .format].contains($0.properties.generalCategory)
        }
        #expect(commands.isEmpty)
      }
      #expect(text.contains("<script>alert(1)</script>"))
      #expect(!HTMLReport(folder, health: health).text.lowercased().contains("<script"))
      #expect(HTMLReport(folder, health: health).text.contains("&lt;script&gt;alert(1)&lt;/script&gt;"))
    }
  }
}

@Suite struct RunHealthTests {
  struct Case: CustomTestStringConvertible, Sendable {
    var name: String
    var state = RunStatus.State.training
    var now = 1001.0
    /// The machine that looks.
    var host = "node-a"
    var process = ProcessLook.State.running
    var level: RunHealth.Level
    var says: String
    var testDescription: String { name }
  }

  @Test(arguments: [
    Case(name: "alive", level: .ok, says: "alive: heard of 1 s ago"),
    Case(name: "a long step", now: 1019, level: .ok, says: "alive"),
    Case(
      name: "silent", now: 1200, level: .alarm,
      says: "not heard of for 3 min (training, step 50, a step takes 2 s): has it died?"),
    Case(name: "gone", process: .gone, level: .alarm, says: "died: process 4711 is gone"),
    Case(name: "stopped by SIGSTOP", process: .halted, level: .alarm, says: "halted: process 4711"),
    Case(name: "elsewhere", host: "node-b", process: .gone, level: .ok, says: "alive"),
    Case(
      name: "silent elsewhere", now: 1200, host: "node-b", process: .gone, level: .alarm,
      says: "has it died, or do the clocks differ? process 4711 is on node-a"),
    Case(name: "with its domain", host: "node-a.cluster.local", process: .gone, level: .alarm, says: "died"),
    Case(name: "a clock ahead", now: 500, level: .note, says: "8 min ahead"),
    Case(name: "evaluating takes longer", state: .evaluating, now: 1500, level: .ok, says: "alive"),
    Case(name: "finished", state: .finished, now: 1e6, process: .gone, level: .ok, says: "finished 11 days ago"),
    Case(name: "stopped", state: .stopped, now: 1010, process: .gone, level: .note, says: "start it again to go on"),
    Case(name: "failed", state: .failed, process: .gone, level: .alarm, says: "failed 1 s ago: disk full"),
  ]) func whetherARunLives(_ item: Case) throws {
    try withTemporaryDirectory { directory in
      var status = status(item.state)
      if item.state == .failed { status.message = "disk full" }
      let health = RunHealth(
        try folder(directory, status, now: item.now), host: item.host,
        process: { pid, start in
          #expect(pid == 4711 && start == 99)
          return item.process
        })
      #expect(health.level == item.level, "\(health.remarks)")
      #expect(health.remarks.contains { $0.text.contains(item.says) }, "\(health.remarks)")
    }
  }

  @Test func aSlowRankSkippedStepsAndTheJournalAreTold() throws {
    try withTemporaryDirectory { directory in
      var status = status()
      status.ranks[2].seconds = 1.6
      status.skippedSteps = 2
      let events: [JSONValue] = [
        // Of an earlier run in the same folder: of no interest now.
        ["time": 1, "event": "ranks_differ", "step": 1], ["time": 100, "event": "started", "step": 0],
        ["time": 400, "event": "step_skipped", "step": 33],
        ["time": 500, "event": "checkpoint_failed", "step": 40, "error": "No space left"],
        ["time": 940, "event": "resumed", "step": 40],
      ]
      try write(events.map { $0.serialized() + "\n" }.joined(), directory + "/journal.jsonl")
      let texts = RunHealth(try folder(directory, status, now: 1001), host: "x").remarks.map(\.text)
      #expect(texts.contains("rank 2 on node-2 is slow: 1.6 s (1.524 times the median), and all wait for it"))
      #expect(
        texts.contains(
          "2 steps were skipped because loss or gradient was not finite or far beyond earlier ones, last at step 33"))
      #expect(texts.contains("a checkpoint could not be saved once, last at step 40, 8 min ago: error No space left"))
      #expect(texts.contains("resumed once, last at step 40, 61 s ago"))
      #expect(!texts.contains { $0.contains("different parameters") })
    }
  }

  @Test func processesOfThisMachineAreFound() throws {
    let me = Int(getpid())
    let start = try #require(ProcessLook.start(of: me))
    #expect(ProcessLook.state(of: me, start: start) == .running)
    #expect(ProcessLook.state(of: me, start: start + 1) == .gone)
    #expect(ProcessLook.state(of: 0, start: nil) == .gone && ProcessLook.state(of: Int.max, start: nil) == .gone)
  }
}
