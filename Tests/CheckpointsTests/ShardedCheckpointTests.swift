import Checkpoints
import Foundation
import ModelFiles
import Testing

/// A checkpoint that several ranks write, onto one disk or several.
@Suite struct ShardedCheckpointTests {
  /// Two output folders, as on hosts with disks of their own.
  private func withStores(_ body: (CheckpointStore, CheckpointStore) throws -> Void) throws {
    try withStore { store in
      try body(
        CheckpointStore(outputDirectory: store.outputDirectory + "/a"),
        CheckpointStore(outputDirectory: store.outputDirectory + "/b"))
    }
  }

  private func write(_ name: String, _ text: String, into draft: CheckpointDraft, rank: Int, disk: Int) throws
    -> [CheckpointManifest.Entry]
  {
    let contents = CheckpointContents(model: [], files: [(name, Array(text.utf8))])
    return try contents.write(into: draft.directory).map {
      .init($0, writer: .init(rank: rank, host: "node\(rank)", disk: disk))
    }
  }

  /// Ranks 0 and 1 write to `a`, rank 2 to `b`.
  private func drafts(_ a: CheckpointStore, _ b: CheckpointStore, step: Int, _ text: String = "x") throws
    -> [CheckpointDraft]
  {
    let drafts = [try CheckpointDraft(a, step: step), try CheckpointDraft(b, step: step)]
    let entries =
      try write("zero", text, into: drafts[0], rank: 0, disk: 0)
      + write("one", text, into: drafts[0], rank: 1, disk: 0)
      + write("two", text, into: drafts[1], rank: 2, disk: 1)
    for draft in drafts { try draft.seal(CheckpointManifest(step: step, entries: entries)) }
    return drafts
  }

  private func save(_ a: CheckpointStore, _ b: CheckpointStore, step: Int) throws {
    let drafts = try drafts(a, b, step: step)
    for draft in drafts { try draft.publish() }
    for draft in drafts { draft.settle() }
  }

  @Test func everyDiskHoldsItsPartAndTheWholeList() throws {
    try withStores { a, b in
      try save(a, b, step: 7)
      let parts = [try a.checkpoint(step: 7), try b.checkpoint(step: 7)]
      #expect(parts.map { $0.files.map(\.name) } == [["zero", "one"], ["two"]])
      for part in parts { try part.verify() }
      let manifests = try parts.map { try CheckpointManifest(directory: $0.directory) }
      #expect(manifests[0] == manifests[1])
      #expect(manifests[0].entries.map(\.file.name) == ["zero", "one", "two"])
      #expect(manifests[0].entries.map { $0.writer?.rank } == [0, 1, 2])
      #expect(manifests[0].entries[2].writer == .init(rank: 2, host: "node2", disk: 1))
      #expect(try CheckpointManifest(parsing: manifests[0].bytes, path: "again") == manifests[0])
    }
  }

  @Test func aDisksPartIsWholeOrDamaged() throws {
    try withStores { a, b in
      try save(a, b, step: 7)
      let folder = a.directory(7)
      try FileManager.default.removeItem(atPath: folder + "/one")
      #expect(throws: CheckpointError.fileMissing(path: folder + "/one")) { try a.checkpoint(step: 7) }
      #expect(try b.newest()?.step == 7)
      try Data("xx".utf8).write(to: URL(filePath: b.directory(7) + "/two"))
      #expect(throws: CheckpointError.wrongSize(path: b.directory(7) + "/two", expected: 1, found: 2)) {
        try b.checkpoint(step: 7)
      }
    }
  }

  /// A disk fails when the other one's folder has its name already.
  @Test func whatIsWithdrawnWasNeverThere() throws {
    try withStores { a, b in
      try save(a, b, step: 3)
      let before = try (snapshot(a.outputDirectory), snapshot(b.outputDirectory))
      for step in [3, 4] {
        let drafts = try drafts(a, b, step: step, "other")
        try drafts[0].publish()
        for draft in drafts { draft.withdraw() }
        #expect(try snapshot(a.outputDirectory) == before.0)
        #expect(try snapshot(b.outputDirectory) == before.1)
        #expect(try a.names == ["checkpoint-3"])
        #expect(try b.names == ["checkpoint-3"])
      }
    }
  }

  @Test func everyDiskIsPrunedByItself() throws {
    try withStores { a, b in
      for step in [1, 2, 3] { try save(a, b, step: step) }
      for store in [a, b] {
        #expect(try store.prune(keeping: 2, upTo: 3) == ["checkpoint-1"])
        #expect(try store.names == ["checkpoint-2", "checkpoint-3"])
      }
    }
  }

  @Test func disksAreToldApartByAProbe() throws {
    try withStores { a, b in
      do {
        let probe = try a.probe()
        #expect(try a.sees(probe.name))
        #expect(try !b.sees(probe.name))
        let draft = try CheckpointDraft(b, step: 1)
        #expect(try b.sees(draft.name))
        #expect(try !a.sees(draft.name))
        #expect(try a.removeLeftovers().isEmpty, "it is in use")
        draft.withdraw()
      }
      #expect(try a.names.isEmpty)
      #expect(try b.names.isEmpty)
      let left = a.outputDirectory + "/.disk.tmp-\(Folders.temporarySuffix())"
      try FileManager.default.createDirectory(atPath: left, withIntermediateDirectories: true)
      #expect(try a.removeLeftovers().count == 1)
    }
  }

  @Test func aManifestOfSeveralRanksNamesThemAll() throws {
    let text = #"{"version":2,"step":1,"checksum":"stripe64","files":[{"name":"x","size":1,"checksum":"0","rank":0}]}"#
    let error = #expect(throws: CheckpointError.self) { try CheckpointManifest(parsing: Array(text.utf8), path: "m") }
    #expect(error?.description.contains("rank, host and disk") == true)
  }

  /// One rank's checkpoint is written as ever.
  @Test func theManifestOfOneRankIsTheFirstVersion() throws {
    try withStore { store in
      let saved = try store.save(step: 1)
      let text = String(
        decoding: try Data(contentsOf: URL(filePath: saved.directory + "/checkpoint.json")), as: UTF8.self)
      #expect(text.contains(#""version": 1"#))
      #expect(!text.contains("rank"))
    }
  }
}
