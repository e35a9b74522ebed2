import Checkpoints
import Collectives
import ModelFiles

/// A checkpoint that all ranks write, each its own files, into one hidden folder on every disk. The folders appear together, or
/// none of them does.
struct ShardedSave {
  let store: CheckpointStore
  let disks: OutputDisks
  /// All ranks, in world order.
  let ranks: RankGroup

  private var leader: Int { disks.leaders[ranks.rank] }
  private var isLeader: Bool { ranks.rank == leader }

  /// Writes `checkpoint-STEP`. A collective call.
  /// - Throws: `RankFailures` on all ranks, naming those that failed; then no new folder is left, and earlier checkpoints are
  ///   as they were. `MPIError`.
  func write(step: Int, _ contents: CheckpointContents) throws {
    var draft: CheckpointDraft?
    do {
      try ranks.together { draft = isLeader ? try CheckpointDraft(store, step: step) : nil }
      let folder = try ranks.allGather(draft?.name ?? "")[leader]
      let written = try ranks.together {
        guard try store.sees(folder) else {
          throw FileError(
            "write into", store.outputDirectory + "/" + folder,
            reason: "rank \(leader) has made it, but it is not there; is the output folder still mounted?")
        }
        return try contents.write(into: store.outputDirectory + "/" + folder)
      }
      let manifest = CheckpointManifest(step: step, entries: try entries(written, step: step))
      try ranks.together { try draft?.seal(manifest) }
      try ranks.together { try draft?.publish() }
    } catch {
      draft?.withdraw()
      throw error
    }
    draft?.settle()
  }

  /// On each disk only the newest `limit` checkpoints up to that of step `saved` stay. A collective call.
  /// - Throws: `RankFailures` on all ranks; `MPIError`.
  func prune(keeping limit: Int, upTo saved: Int) throws {
    try ranks.together { if isLeader { _ = try store.prune(keeping: limit, upTo: saved) } }
  }

  /// What all ranks wrote, in rank order; the same on all.
  private func entries(_ written: [WrittenFile], step: Int) throws -> [CheckpointManifest.Entry] {
    let writer = CheckpointManifest.Writer(
      rank: ranks.rank, host: ranks.hostName, disk: disks.disk(of: ranks.rank))
    let own = CheckpointManifest(step: step, entries: written.map { .init($0, writer: writer) })
    return try ranks.allGather(own.bytes).enumerated().flatMap { rank, bytes in
      try CheckpointManifest(parsing: bytes, path: "what rank \(rank) wrote").entries
    }
  }
}
