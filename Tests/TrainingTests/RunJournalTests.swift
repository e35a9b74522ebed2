import Foundation
import JSON
import Testing
import Training

@Suite struct RunJournalTests {
  @Test func oneObjectALineOverSeveralStarts() throws {
    try withTemporaryDirectory { directory in
      let path = directory + "/journal.jsonl"
      try RunJournal(path: path, now: { 1_800_000_000.25 }).append("started", step: 0, [("ranks", 2)])
      try RunJournal(path: path, now: { 1_800_000_001.5 }).append("signal", step: 7, [("name", "say \"USR1\"\n")])
      let lines = try text(path).split(separator: "\n", omittingEmptySubsequences: false)
      #expect(lines.count == 3 && lines[2].isEmpty)
      #expect(lines[0] == #"{"time": 1800000000.25, "event": "started", "step": 0, "ranks": 2}"#)
      #expect(lines[1] == #"{"time": 1800000001.5, "event": "signal", "step": 7, "name": "say \"USR1\"\n"}"#)
    }
  }

  @Test func halfALineIsLeftToItself() throws {
    try withTemporaryDirectory { directory in
      let path = directory + "/journal.jsonl"
      try #"{"time": 1, "ev"#.write(toFile: path, atomically: true, encoding: .utf8)
      try RunJournal(path: path, now: { 2 }).append("resumed", step: 3)
      #expect(try text(path) == "{\"time\": 1, \"ev\n{\"time\": 2.0, \"event\": \"resumed\", \"step\": 3}\n")
    }
  }

  @Test func aFullDiskIsOneWarning() throws {
    var warnings: [String] = []
    let journal = try RunJournal(path: "/dev/full", warn: { warnings.append($0) })
    journal.append("started", step: 0)
    journal.append("finished", step: 1)
    #expect(warnings.count == 1)
    #expect(warnings.first?.hasPrefix("warning: journal.jsonl: cannot write /dev/full: No space left") == true)
  }

  @Test func aFolderThatIsMissingIsAnError() {
    #expect { try RunJournal(path: "/no/such/folder/journal.jsonl") } throws: { "\($0)".contains("/no/such/folder") }
  }
}

@Suite struct JournalDigestTests {
  /// A journal may hold anything: of an event only what is shown is kept.
  @Test func detailsAreCleanedAndCut() {
    var digest = JournalDigest()
    let long = JSONValue.string("\u{1B}[2J" + String(repeating: "x", count: 1_000_000))
    digest.add(["time": 1, "event": "signal\u{7}", "step": 3, "reason": long, "host": "a"])
    #expect(digest.events.first?.name == "signal\u{FFFD}")
    #expect(digest.events.first?.step == 3)
    #expect(digest.events.first?.detailText.hasPrefix("reason \u{FFFD}[2Jxxx") == true)
    #expect(digest.events.first?.detailText.unicodeScalars.count == 2000)
  }
}
