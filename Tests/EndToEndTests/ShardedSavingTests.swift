import Foundation
import JSON
import Testing

extension EndToEndTests {
  /// `save_sharded: true`: every rank writes its own moments, on one disk or each on its own.
  @Suite struct ShardedSavingTests {
    private static let settings: Settings = [
      "reproducible": true, "max_steps": 6, "save_steps": 2, "shuffle": true, "weight_decay": 0.1, "save_sharded": true,
    ]

    private func run(_ ranks: Int, _ more: [String] = [], in scratch: ScratchDirectory, _ name: String) throws
      -> TrainingRun
    {
      try runTraining(
        ranks: ranks, settings: Self.settings, overrides: ["gradient_accumulation_steps=\(12 / ranks)"] + more,
        in: scratch, output: name)
    }

    private func contents(_ run: URL, _ file: String) throws -> Data { try Data(contentsOf: run.appending(path: file)) }

    private func names(_ folder: URL) throws -> [String] {
      try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted()
    }

    /// As if the run had been stopped after `step`.
    private func cut(_ output: URL, after step: Int) throws {
      for name in try names(output) where name.hasPrefix("checkpoint-") {
        if Int(name.dropFirst(11)) ?? 0 > step { try FileManager.default.removeItem(at: output.appending(path: name)) }
      }
      try? FileManager.default.removeItem(at: output.appending(path: "model.safetensors"))
    }

    /// Saved and continued at every number of ranks, with the bits of a run that saved the plain way and never stopped.
    @Test(arguments: [0, 1]) func anyRanksGoOnFromAnyRanksShards(stage: Int) throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let zero = "zero_stage=\(stage)"
      let plain = try run(1, ["save_sharded=false"], in: scratch, "plain").outputDirectory
      let (model, moments) = (
        try contents(plain, "model.safetensors"), try contents(plain, "checkpoint-6/optimizer.safetensors")
      )
      let chain = try run(2, [zero], in: scratch, "chain").outputDirectory
      #expect(try contents(chain, "model.safetensors") == model)
      #expect(
        try names(chain.appending(path: "checkpoint-6")).filter { $0.hasPrefix("optimizer") } == [
          "optimizer-00001-of-00002.safetensors", "optimizer-00002-of-00002.safetensors",
        ])
      // From the files of 2 ranks by 3, from those by 1; from those of 2 by 1 that saves the plain way, from that by 3; and
      // once more from 2.
      for (step, ranks, sharded) in [(2, 3, true), (4, 1, true), (2, 1, false), (4, 3, true), (2, 2, false)] {
        try cut(chain, after: step)
        let next = try run(ranks, [zero, "save_sharded=\(sharded)"], in: scratch, "chain")
        #expect(next.result.output.contains("checkpoint-\(step)"), "\(next.result.output)")
        #expect(try contents(chain, "model.safetensors") == model, "\(ranks) ranks from step \(step)")
        if !sharded {
          let same = try contents(chain, "checkpoint-6/optimizer.safetensors") == moments
          #expect(same, "moments after \(ranks) ranks from step \(step)")
        }
      }
    }

    @Test func aDamagedShardIsNamedAndTheCheckpointBeforeTaken() throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let output = try run(3, in: scratch, "out").outputDirectory
      let model = try contents(output, "model.safetensors")
      try cut(output, after: 4)
      let shard = output.appending(path: "checkpoint-4/optimizer-00002-of-00003.safetensors")
      var bytes = try Data(contentsOf: shard)
      bytes[bytes.count / 2] ^= 1
      try bytes.write(to: shard)
      let resumed = try run(3, in: scratch, "out").result.output
      for words in ["checkpoint-4 cannot be used", shard.path, "written by rank 1 on ", "checkpoint-2\n"] {
        #expect(resumed.contains(words), "\(words) is not in \(resumed)")
      }
      #expect(try contents(output, "model.safetensors") == model)
      try FileManager.default.removeItem(at: shard)
      try cut(output, after: 4)
      let again = try run(2, in: scratch, "out").result.output
      #expect(again.contains("00002-of-00003.safetensors is on no rank's disk; rank 1 on "), "\(again)")
      #expect(try contents(output, "model.safetensors") == model)
    }

    /// Of what rank 0 has written alone, too.
    @Test func aDamagedWholeFileIsNamedAndTheCheckpointBeforeTaken() throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let plain = ["save_sharded=false"]
      let output = try run(2, plain, in: scratch, "out").outputDirectory
      let model = try contents(output, "model.safetensors")
      for name in ["optimizer.safetensors", "model.safetensors", "training_state.json"] {
        try cut(output, after: 4)
        let file = output.appending(path: "checkpoint-4/\(name)")
        var bytes = try Data(contentsOf: file)
        bytes[bytes.count / 2] ^= 1
        try bytes.write(to: file)
        let resumed = try run(2, plain, in: scratch, "out").result.output
        for words in ["checkpoint-4 cannot be used", file.path, "the contents have changed", "checkpoint-2\n"] {
          #expect(resumed.contains(words), "\(words) is not in \(resumed)")
        }
        #expect(try contents(output, "model.safetensors") == model)
      }
    }

    /// Rank 1 may no longer write large files: each save fails as a whole, and training goes on.
    @Test func aRankThatCannotWriteIsNamed() throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let settings = ResumeTests.settings.merging(["save_sharded": true]) { $1 }
      let job = try startTraining(ranks: 3, settings: settings, in: scratch)
      let output = scratch.url.appending(path: "out")
      while !FileManager.default.fileExists(atPath: output.appending(path: "checkpoint-4").path) {
        try #require(job.process.isRunning, "the run ended without a checkpoint")
        usleep(2000)
      }
      let before = try names(output.appending(path: "checkpoint-4"))
      for rank in try job.rankProcesses().dropFirst() {
        let limit = try Process.run(URL(filePath: "/usr/bin/prlimit"), arguments: ["--pid", "\(rank)", "--fsize=1000"])
        limit.waitUntilExit()
        try #require(limit.terminationStatus == 0)
      }
      let result = try job.wait()
      #expect(result.exitCode == 0, "\(result.output)")
      for words in ["checkpoint-40 could not be saved: rank ", " of 3 on ", "of-00003.safetensors", "training goes on"]
      {
        #expect(result.standardError.contains(words), "\(words) is not in \(result.output)")
      }
      #expect(try trainingLogs(in: output).count == 40)
      let left = try names(output)
      #expect(left.contains("model.safetensors") && !left.contains("checkpoint-40"))
      #expect(!left.contains { $0.hasPrefix(".") }, "\(left)")
      #expect(try names(output.appending(path: "checkpoint-4")) == before)
    }

    @Test func theOldestAreRemovedAndStatusKnowsTheRest() throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let output = try run(2, ["save_total_limit=2"], in: scratch, "out").outputDirectory
      #expect(try names(output).filter { $0.contains("checkpoint") } == ["checkpoint-4", "checkpoint-6"])
      let status = try Command.alone(["status", output.path], in: scratch.url).wait().output
      #expect(status.contains("checkpoint-6") || status.contains("step 6"), "\(status)")
      #expect(!status.contains("cannot be used"), "\(status)")
    }

    /// Ranks 0 and 1 have one disk, rank 2 another: as on two hosts.
    private func start(_ folders: [(ranks: Int, name: String)], _ more: [String] = [], in scratch: ScratchDirectory)
      throws -> CommandResult
    {
      let ranks = folders.reduce(0) { $0 + $1.ranks }
      let settings = Settings.base(model: "llama", output: scratch.url).merging(Self.settings) { $1 }
      let file = try scratch.write(settings.yaml, to: "disks.yaml").path
      return try Command.mpirun(
        folders.map { folder in
          .init(
            count: folder.ranks,
            arguments: [
              "train", "--config", file, "gradient_accumulation_steps=\(12 / ranks)",
              "output_dir=\(scratch.url.appending(path: folder.name).path)",
            ] + more)
        }, in: scratch.url
      ).wait()
    }

    @Test func hostsWithDisksOfTheirOwn() throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let model = try contents(
        run(3, ["save_sharded=false"], in: scratch, "plain").outputDirectory, "model.safetensors")
      let (a, b, c) = (
        scratch.url.appending(path: "a"), scratch.url.appending(path: "b"), scratch.url.appending(path: "c")
      )
      let first = try start([(2, "a"), (1, "b")], ["save_total_limit=2"], in: scratch)
      #expect(first.exitCode == 0, "\(first.output)")
      #expect(try contents(a, "model.safetensors") == model)
      #expect(try names(b) == ["checkpoint-4", "checkpoint-6"])
      #expect(
        try names(b.appending(path: "checkpoint-4")) == ["checkpoint.json", "optimizer-00003-of-00003.safetensors"])
      let inA = try names(a.appending(path: "checkpoint-4"))
      #expect(inA.filter { $0.hasPrefix("optimizer") }.count == 2 && inA.contains("model.safetensors"))
      #expect(try contents(a, "checkpoint-4/checkpoint.json") == contents(b, "checkpoint-4/checkpoint.json"))

      // The same ranks, other ranks, and the hosts the other way round: rank 0 has no model on its disk.
      for folders in [[(2, "a"), (1, "b")], [(1, "b"), (1, "a")], [(1, "c"), (1, "b"), (1, "a")]] {
        for output in [a, b, c] where FileManager.default.fileExists(atPath: output.path) { try cut(output, after: 4) }
        let result = try start(folders, in: scratch)
        #expect(result.exitCode == 0, "\(result.output)")
        #expect(
          result.output.contains("/checkpoint-4") && !result.output.contains("cannot be used"), "\(result.output)")
        let last = scratch.url.appending(path: folders[0].1)
        #expect(try contents(last, "model.safetensors") == model)
        // What was written by other ranks than before is of no use to the next round.
        try? FileManager.default.removeItem(at: c)
      }

      // The host of the third shard is lost.
      for output in [a, b] { try cut(output, after: 4) }
      try FileManager.default.removeItem(at: b.appending(path: "checkpoint-4"))
      let lost = try start([(2, "a"), (1, "c")], in: scratch)
      #expect(lost.exitCode != 0)
      for words in [
        "has no checkpoint that can be used", "00003-of-00003.safetensors is on no rank's disk; rank 2 on ",
      ] {
        #expect(lost.output.contains(words), "\(words) is not in \(lost.output)")
      }
    }

    /// Without it all ranks must have been given the same folder.
    @Test func otherwiseFoldersMustBeTheSame() throws {
      let scratch = try ScratchDirectory()
      defer { scratch.remove() }
      let result = try start([(1, "a"), (1, "b")], ["save_sharded=false"], in: scratch)
      #expect(result.exitCode != 0)
      #expect(result.output.contains("output_dir"), "\(result.output)")
    }
  }
}
