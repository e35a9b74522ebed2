import Checkpoints
import Collectives

/// Which ranks' output folders are on the same disk. Asked for, not told: a folder of unpredictable name is made, and whoever
/// finds it shares the disk with who made it.
struct OutputDisks: Sendable {
  /// Of each rank the lowest one on its disk, which makes, names and removes folders there.
  let leaders: [Int]

  /// A collective call; makes the output folder where it is missing.
  /// - Throws: `RankFailures` when a rank cannot write there, or sees a folder only some time after it was made.
  init(_ store: CheckpointStore, _ communicator: Communicator) throws {
    var leaders = [Int?](repeating: nil, count: communicator.worldSize)
    while let leader = leaders.firstIndex(of: nil) {
      var probe: CheckpointStore.Probe?
      let name = try communicator.from(leader) {
        let made = try store.probe()
        probe = made
        return Array(made.name.utf8)
      }
      let known = leaders[communicator.rank]
      let isSeen = try communicator.together {
        let isSeen = try store.sees(String(decoding: name, as: UTF8.self))
        guard !isSeen || known == nil else { throw LateView(folder: store.outputDirectory) }
        return isSeen
      }
      withExtendedLifetime(probe) {}
      probe = nil
      for (rank, sees) in try communicator.allGather(isSeen ? 1 : 0).enumerated() where sees == 1 || rank == leader {
        leaders[rank] = leader
      }
    }
    self.leaders = leaders.compactMap { $0 }
  }

  /// Number of disks.
  var count: Int { Set(leaders).count }

  /// A rank's disk, counted from 0.
  func disk(of rank: Int) -> Int { Set(leaders.filter { $0 < leaders[rank] }).count }

  /// A disk that is shared, but does not show all ranks the same: they would take it for several.
  private struct LateView: Error, CustomStringConvertible {
    var folder: String
    var description: String {
      "\(folder) is shared with other ranks, but new folders show late there, which save_sharded cannot rely on; mount it without caching of names (lookupcache=none), or set save_sharded=false"
    }
  }
}
