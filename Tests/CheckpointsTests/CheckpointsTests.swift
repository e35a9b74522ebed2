import Checkpoints
import Foundation
import Glibc
import ModelFiles
import Testing

@Suite struct CheckpointsTests {
  @Test func everyBitComesBack() throws {
    try withStore { store in
      let saved = try store.save(step: 30, seed: 1)
      #expect(try store.names == ["checkpoint-30"])
      let found = try #require(try store.newest())
      #expect(found.step == 30)
      #expect(found.files == saved.files)
      #expect(
        found.files.map(\.name) == ["model.safetensors", "optimizer.safetensors", "config.json", "trainer_state.json"])
      let model = SmallModel()
      try model.load(found)
      #expect(model.bits == SmallModel(seed: 1).bits)
      #expect(try found.bytes(of: "trainer_state.json", limit: 100) == Array("{\"global_step\": 1}".utf8))
      #expect(throws: CheckpointError.noSuchFile(checkpoint: found.directory, file: "absent")) {
        try found.bytes(of: "absent", limit: 100)
      }
    }
  }

  @Test func aShardedModelComesBack() throws {
    try withStore { store in
      try SmallModel(seed: 1).withContents { contents in
        var contents = contents
        contents.maxShardBytes = 100
        try store.save(step: 1, contents: contents)
      }
      let found = try #require(try store.newest())
      #expect(found.contains("model-00002-of-00002.safetensors"))
      let model = SmallModel()
      try model.load(found)
      #expect(model.bits == SmallModel(seed: 1).bits)
    }
  }

  @Test func theHighestStepIsTheNewest() throws {
    try withStore { store in
      #expect(try store.newest() == nil)
      for step in [100, 9, 20] { try store.save(step: step) }
      #expect(try store.newest()?.step == 100)
      #expect(try store.checkpoint(step: 20).step == 20)
    }
  }

  @Test func savingAStepAgainReplacesIt() throws {
    try withStore { store in
      try store.save(step: 5, seed: 1)
      try Data().write(to: URL(filePath: store.outputDirectory + "/checkpoint-5/stale"))
      try store.save(step: 5, seed: 2)
      #expect(try store.names == ["checkpoint-5"])
      #expect(!FileManager.default.fileExists(atPath: store.outputDirectory + "/checkpoint-5/stale"))
      let model = SmallModel()
      try model.load(try store.checkpoint(step: 5))
      #expect(model.bits == SmallModel(seed: 2).bits)
    }
  }

  @Test func permissionsFollowTheUmask() throws {
    try withStore { store in
      try store.save(step: 1)
      func permissions(_ path: String) throws -> Int? {
        try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
      }
      let (folder, file) = (store.outputDirectory + "/folder", store.outputDirectory + "/file")
      mkdir(folder, 0o777)
      close(open(file, O_CREAT | O_WRONLY, 0o666))
      #expect(try permissions(store.outputDirectory + "/checkpoint-1") == permissions(folder))
      #expect(try permissions(store.outputDirectory + "/checkpoint-1/model.safetensors") == permissions(file))
    }
  }

  @Test func otherTensorsAreRefusedBeforeAnythingIsRead() throws {
    try withStore { store in
      let checkpoint = try store.save(step: 1)
      let path = checkpoint.directory
      func load(_ wanted: [(String, [Int])]) throws {
        var values = [Float](repeating: 7, count: 1000)
        try values.withUnsafeMutableBufferPointer { values in
          let destinations = wanted.map { name, shape in
            TensorDestination(
              name: name, shape: shape, values: UnsafeMutableBufferPointer(rebasing: values[..<shape.reduce(1, *)]))
          }
          defer { #expect(values.allSatisfy { $0 == 7 }) }
          try checkpoint.loadModel(into: destinations)
        }
      }
      let shapes = SmallModel.shapes
      #expect(throws: CheckpointError.missingTensors(path: path, names: ["other"])) {
        try load(shapes + [("other", [1])])
      }
      #expect(throws: CheckpointError.unexpectedTensors(path: path, names: ["lm_head.bias"])) {
        try load(Array(shapes.dropLast()))
      }
      let differs = CheckpointError.shapeDiffers(path: path, tensor: "lm_head.bias", expected: [1, 5], found: [5])
      #expect(throws: differs) { try load(Array(shapes.dropLast()) + [("lm_head.bias", [1, 5])]) }
      #expect(differs.description.contains("'lm_head.bias' must have shape [1, 5], found [5]"))
    }
  }

  @Test func onlyTheOldestArePruned() throws {
    try withStore { store in
      for step in [1, 2, 10, 20] { try store.save(step: step) }
      try FileManager.default.createDirectory(
        atPath: store.outputDirectory + "/checkpoint-3", withIntermediateDirectories: true)
      #expect(try store.prune(keeping: 4, upTo: 20) == [])
      #expect(try store.prune(keeping: 2, upTo: 20) == ["checkpoint-1", "checkpoint-2"])
      #expect(try store.names == ["checkpoint-10", "checkpoint-20", "checkpoint-3"])
      // A run that goes on from an earlier step never removes what it has just saved, nor what lies ahead of it.
      try store.save(step: 5)
      #expect(try store.prune(keeping: 1, upTo: 5) == [])
      try store.save(step: 7)
      #expect(try store.prune(keeping: 1, upTo: 7) == ["checkpoint-5"])
      #expect(try store.newest()?.step == 20)
      #expect(try store.prune(keeping: 1, upTo: 20) == ["checkpoint-7", "checkpoint-10"])
    }
  }

  @Test func leftoversOfDeadRunsAreCleared() throws {
    try withStore { store in
      try store.save(step: 1, seed: 1)
      try store.save(step: 2, seed: 2)
      let output = store.outputDirectory
      let files = FileManager.default
      let suffix = Folders.temporarySuffix()
      // Killed while saving step 3; killed between the two renames of replacing step 2; killed while pruning step 0.
      let ours = [
        ".checkpoint-3.tmp-" + suffix, ".checkpoint-0.del-" + suffix, ".model.tmp-" + suffix,
        ".checkpoint-1.old-" + suffix,
      ]
      for name in ours {
        try files.createDirectory(atPath: output + "/" + name + "/sub", withIntermediateDirectories: true)
        try Data([1]).write(to: URL(filePath: output + "/" + name + "/sub/file"))
      }
      try files.moveItem(atPath: output + "/checkpoint-2", toPath: output + "/.checkpoint-2.old-" + suffix)
      // Not ours, whatever they are.
      let others = [
        ".checkpoint-3.tmp-xyz", ".checkpoint-03.tmp-" + suffix, ".git", "checkpoint-4.tmp-" + suffix,
        ".other.tmp-" + suffix,
        // Another machine's, which may be alive: locks do not tell.
        ".checkpoint-8.tmp-0123456789abcdef01234567",
      ]
      for name in others { try files.createDirectory(atPath: output + "/" + name, withIntermediateDirectories: true) }
      // Still held by a living process.
      let live = output + "/.checkpoint-9.tmp-" + suffix
      try files.createDirectory(atPath: live, withIntermediateDirectories: true)
      let held = open(live, O_RDONLY | O_DIRECTORY)
      #expect(flock(held, LOCK_EX | LOCK_NB) == 0)
      defer { close(held) }

      #expect(try store.newest()?.step == 1)
      #expect(try store.removeLeftovers() == (ours + [".checkpoint-2.old-" + suffix]).sorted())
      #expect(try store.names == (others + [".checkpoint-9.tmp-" + suffix, "checkpoint-1", "checkpoint-2"]).sorted())
      let model = SmallModel()
      try model.load(try #require(try store.newest()))
      #expect(model.bits == SmallModel(seed: 2).bits)
    }
  }

  /// Where folders cannot be locked, their age tells.
  @Test func aFolderRestsWhenNothingHasHappenedInItForAnHour() throws {
    try withStore { store in
      let path = store.outputDirectory + "/.checkpoint-9.tmp-0123456789abcdef"
      try Folders.create(path)
      let made = try #require(Folders.time(beside: path))
      #expect(!TemporaryFolder.hasRested(path))
      for (age, hasRested) in [(3500, false), (3700, true), (-7200, false)] {
        var times = [timespec(tv_sec: made - age, tv_nsec: 0), timespec(tv_sec: made - age, tv_nsec: 0)]
        try #require(utimensat(AT_FDCWD, path, &times, 0) == 0)
        #expect(TemporaryFolder.hasRested(path) == hasRested, "\(age) s")
      }
      #expect(try store.names == [".checkpoint-9.tmp-0123456789abcdef"])
    }
  }

  @Test func temporaryFilesThatHaveRestedAreCleared() throws {
    try withStore { store in
      try Folders.create(store.outputDirectory)
      let (old, new) = (".status.json.tmp-" + Folders.temporarySuffix(), ".owner.json.tmp-" + Folders.temporarySuffix())
      for name in [old, new] { try Data([1]).write(to: URL(filePath: store.outputDirectory + "/" + name)) }
      let path = store.outputDirectory + "/" + old
      let made = try #require(Folders.time(beside: path))
      var times = [timespec(tv_sec: made - 3700, tv_nsec: 0), timespec(tv_sec: made - 3700, tv_nsec: 0)]
      try #require(utimensat(AT_FDCWD, path, &times, 0) == 0)
      #expect(try store.removeLeftovers() == [old])
      #expect(try store.names == [new])
    }
  }

  /// The file that is put in its place last tells whether the others are of one model.
  @Test func aModelThatCouldNotBePutInPlaceIsNotTakenForOne() throws {
    try withStore { store in
      try SmallModel(seed: 5).withContents { contents in
        try store.saveModel(contents, last: "trainer_state.json")
        let path = store.outputDirectory + "/optimizer.safetensors"
        try FileManager.default.removeItem(atPath: path)
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
        #expect(throws: FileError.self) { try store.saveModel(contents, last: "trainer_state.json") }
        #expect(try !store.names.contains("trainer_state.json"))
      }
    }
  }

  @Test func theFinalModelLeavesCheckpointsAlone() throws {
    try withStore { store in
      try store.save(step: 1)
      let before = try snapshot(store.outputDirectory + "/checkpoint-1")
      try SmallModel(seed: 5).withContents { contents in
        var contents = CheckpointContents(model: contents.model, files: contents.files)
        contents.maxShardBytes = 100
        try store.saveModel(contents, last: "trainer_state.json")
        #expect(
          try store.names == [
            "checkpoint-1", "config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
            "model.safetensors.index.json", "trainer_state.json",
          ])
        contents.maxShardBytes = 1 << 20
        contents.modelDType = .bf16
        try store.saveModel(contents, last: "trainer_state.json")
        #expect(try store.names == ["checkpoint-1", "config.json", "model.safetensors", "trainer_state.json"])
      }
      #expect(try SafetensorsFolder(directory: store.outputDirectory).info("lm_head.bias")?.dtype == .bf16)
      #expect(try snapshot(store.outputDirectory + "/checkpoint-1") == before)
      #expect(try store.newest()?.step == 1)
    }
  }
}
