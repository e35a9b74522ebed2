import Checkpoints
import Foundation
import ModelFiles
import Testing

/// Damaged checkpoints are named, and incomplete ones passed over; failing saves leave everything as it was.
@Suite struct DamageTests {
  @Test(arguments: [
    "model.safetensors", "optimizer.safetensors", "config.json", "trainer_state.json", "checkpoint.json",
  ])
  func aDamagedFileIsNamed(_ name: String) throws {
    try withStore { store in
      try store.save(step: 1)
      try store.save(step: 2)
      let path = store.outputDirectory + "/checkpoint-2/" + name
      let intact = try Data(contentsOf: URL(filePath: path))
      func expectDamage(_ reason: String) {
        let error = #expect(throws: (any Error).self) { try store.checkpoint(step: 2).verify() }
        #expect(error.map { "\($0)" }?.contains(reason) == true, "\(String(describing: error))")
      }
      try intact.dropLast(3).write(to: URL(filePath: path))
      expectDamage("checkpoint-2")
      #expect(try store.newest()?.step == 1)
      for position in [0, intact.count / 2, intact.count - 2] {
        var flipped = intact
        flipped[position] ^= 0x10
        try flipped.write(to: URL(filePath: path))
        expectDamage(name == "checkpoint.json" ? "checkpoint-2" : "the contents have changed")
      }
      try FileManager.default.removeItem(atPath: path)
      expectDamage(name == "checkpoint.json" ? "there is no checkpoint.json" : "the file is missing")
      try intact.write(to: URL(filePath: path))
      #expect(try store.newest()?.step == 2)
    }
  }

  @Test func aRenamedCheckpointIsNotTaken() throws {
    try withStore { store in
      try store.save(step: 1)
      try FileManager.default.copyItem(
        atPath: store.outputDirectory + "/checkpoint-1", toPath: store.outputDirectory + "/checkpoint-7")
      #expect(try store.newest()?.step == 1)
      let error = #expect(throws: CheckpointError.self) { try store.checkpoint(step: 7) }
      #expect(error?.description.contains("it is of step 1") == true)
    }
  }

  @Test(arguments: [
    #"{"name":"../x","size":1,"checksum":"0"}"#, #"{"name":"/etc/passwd","size":1,"checksum":"0"}"#,
    #"{"name":"x","size":1,"checksum":"0"},{"name":"x","size":1,"checksum":"0"}"#,
    #"{"name":"x","size":-1,"checksum":"0"}"#, #"{"name":"x","size":1,"checksum":"zz"}"#, "1",
  ])
  func aManifestCannotLeadElsewhere(_ entry: String) throws {
    try withStore { store in
      let checkpoint = try store.save(step: 1)
      let path = checkpoint.directory + "/checkpoint.json"
      try Data(#"{"version":1,"step":1,"checksum":"stripe64","files":[\#(entry)]}"#.utf8).write(to: URL(filePath: path))
      let error = #expect(throws: CheckpointError.self) { try store.checkpoint(step: 1) }
      #expect(error?.description.contains("'files' ") == true)
    }
  }

  /// A save that fails half-way: the model is written, a later file cannot be created.
  private func expectFailure(_ store: CheckpointStore, file: String) throws {
    let before = try snapshot(store.outputDirectory)
    SmallModel(seed: 9).withContents { contents in
      var contents = contents
      contents.files.append((file, [1]))
      for step in [1, 2] { #expect(throws: (any Error).self) { try store.save(step: step, contents: contents) } }
      #expect(throws: (any Error).self) { try store.saveModel(contents) }
    }
    #expect(try snapshot(store.outputDirectory) == before)
    #expect(try store.names == ["checkpoint-1"])
  }

  @Test(arguments: ["../escape", "a/b", "", "..", "config.json", "checkpoint.json", String(repeating: "x", count: 300)])
  func aFailingSaveLeavesEverythingAsItWas(_ file: String) throws {
    try withStore { store in
      try store.save(step: 1)
      try expectFailure(store, file: file)
    }
  }

  @Test func anOutputFolderThatCannotBeMadeIsNamed() throws {
    try withStore { store in
      try store.save(step: 1)
      let file = store.outputDirectory + "/checkpoint-1/config.json"
      let error = #expect(throws: FileError.self) { try CheckpointStore(outputDirectory: file + "/x").save(step: 1) }
      #expect(error == FileError("create", file + "/x", code: ENOTDIR))
      #expect(throws: FileError("create", file, code: ENOTDIR)) {
        try CheckpointStore(outputDirectory: file).save(step: 1)
      }
    }
  }

  /// Needs the right to mount, which a user's shell lacks and a container's root may have.
  private static let canMount: Bool = {
    let folder = FileManager.default.temporaryDirectory.appending(path: "orpo-dist-tests-\(UUID().uuidString)").path
    guard mkdir(folder, 0o700) == 0 else { return false }
    defer { rmdir(folder) }
    return mount("tmpfs", folder, "tmpfs", 0, "size=64k") == 0 && umount(folder) == 0
  }()

  @Test(.enabled(if: canMount, "a small file system cannot be mounted here"))
  func aFullDiskLeavesEverythingAsItWas() throws {
    try withStore { store in
      try FileManager.default.createDirectory(atPath: store.outputDirectory, withIntermediateDirectories: true)
      try #require(mount("tmpfs", store.outputDirectory, "tmpfs", 0, "size=64k") == 0)
      defer { umount(store.outputDirectory) }
      try store.save(step: 1)
      let before = try snapshot(store.outputDirectory)
      let large = [Float](repeating: 1, count: 100_000)
      large.withUnsafeBufferPointer { large in
        let contents = CheckpointContents(model: [NamedTensor(name: "large", shape: [100_000], values: large)])
        for step in [1, 2] {
          let error = #expect(throws: FileError.self) { try store.save(step: step, contents: contents) }
          #expect(error?.code == ENOSPC)
          #expect(error?.path.hasSuffix("/model.safetensors") == true)
        }
        #expect(throws: FileError.self) { try store.saveModel(contents) }
      }
      #expect(try snapshot(store.outputDirectory) == before)
      #expect(try store.names == ["checkpoint-1"])
      #expect(try store.newest()?.step == 1)
    }
  }
}
