import Collectives
import DataParallel
import Kernels
import Tensors

/// Parameters and gradients of a small model, trained by one optimizer.
private final class Trainee {
  static let count = 123_457
  static let decayRanges = [1000..<60_000, 60_000..<60_001, 90_000..<count]
  let parameters = AlignedBuffer<Float>(count: count)
  let gradients = AlignedBuffer<Float>(count: count)
  let reducer: GradientReducer
  let optimizer: AdamWOptimizer

  init(_ mesh: RankMesh, sharded: Bool, bucketBytes: Int = 100_000) {
    reducer = GradientReducer(
      mesh: mesh, gradients: gradients.values, result: sharded ? .ownSlices : .everything, bucketBytes: bucketBytes,
      overlaps: true)
    optimizer = AdamWOptimizer(
      parameters: parameters.values, gradients: gradients.values, decayRanges: Self.decayRanges,
      hyperparameters: .init(weightDecay: 0.1),
      owned: sharded ? reducer.plan.slices(of: mesh.communicator.rank) : nil)
    var random = CounterRandom(seed: 1, stream: 0)
    for index in 0..<Self.count { parameters[index] = random.normal() }
  }

  /// One optimizer step with gradients of this rank's own; returns the norm.
  func step(_ step: Int) throws -> Double {
    var random = CounterRandom(seed: UInt64(step), stream: UInt64(1 + reducer.communicator.rank))
    for index in 0..<Self.count { gradients[index] = random.normal() }
    try reducer.ready(upTo: Self.count / 2)
    try reducer.finish()
    let norm = try reducer.globalNorm()
    optimizer.step(learningRate: 1e-3, gradientScale: GradientReducer.clipScale(norm: norm, maxNorm: 1))
    try reducer.gatherParameters(parameters.values)
    return norm
  }

  var bits: UInt64 { ParameterChecksum.of(UnsafeBufferPointer(parameters.values)) }

  func stream() throws -> MomentStream {
    MomentStream(optimizer, reducer, over: try reducer.communicator.group(0))
  }
}

/// The moments as rank 0 would write them; empty elsewhere.
private func written(_ trainee: Trainee) throws -> [Float] {
  var values: [Float] = []
  let stream = try trainee.stream()
  try stream.serving { try stream.read { values += $0 } }
  return values
}

private func floats(_ bytes: [UInt8]) -> [Float] {
  bytes.withUnsafeBytes { bytes in
    (0..<bytes.count / 4).map { bytes.loadUnaligned(fromByteOffset: 4 * $0, as: Float.self) }
  }
}

private struct DiskFull: Error {}

let shardingChecks: [Check] = [
  Check("a sharded optimizer gives the same bits as a whole one") { world in
    for (name, mesh) in [
      ("one node", try RankMesh(world)), ("nodes of one", try RankMesh(world, ranksPerNode: 1)),
      ("nodes of two", try RankMesh(world, ranksPerNode: 2)),
    ] {
      let whole = Trainee(mesh, sharded: false)
      let sharded = Trainee(mesh, sharded: true)
      for step in 1...3 {
        let norms = (try whole.step(step), try sharded.step(step))
        try expect(norms.0.bitPattern == norms.1.bitPattern, "\(name): norms \(norms) of step \(step)")
      }
      try world.requireSameParameters(sharded.parameters.values)
      try expectEqual(sharded.bits, whole.bits, "\(name): checksum of the parameters")
      // Every rank keeps its share of the moments, and only that.
      let kept = try world.allGather(sharded.optimizer.moments(.second).count)
      try expectEqual(kept.reduce(0, +), Trainee.count, "\(name): moments on all ranks")
      try expect((kept.max() ?? 0) - (kept.min() ?? 0) <= 31 * sharded.reducer.plan.bucketCount, "\(name): \(kept)")
      for slice in sharded.reducer.plan.slices(of: world.rank) {
        for moment in AdamWOptimizer.Moment.allCases {
          try expect(
            Array(sharded.optimizer.moments(moment, of: slice)) == Array(whole.optimizer.moments(moment, of: slice)),
            "\(name): moments \(moment) of \(slice) differ")
        }
      }
    }
  },

  Check("moments are written the same whoever holds them, and come back to any owners") { world in
    let mesh = try RankMesh(world)
    let whole = Trainee(mesh, sharded: false)
    let sharded = Trainee(mesh, sharded: true)
    for step in 1...2 {
      _ = try whole.step(step)
      _ = try sharded.step(step)
    }
    let files = (try written(whole), try written(sharded))
    try expect(files.0 == files.1, "the files differ")
    try expectEqual(files.0.count, world.isRoot ? 2 * Trainee.count : 0, "values written")
    // Read by ranks that own other slices, or everything; rank 0's file, or that of the last rank.
    let file = floats(try world.fromRoot { files.0.withUnsafeBytes { Array($0) } })
    let last = world.worldSize - 1
    for (bucketBytes, isSharded, holder) in [
      (100_000, true, 0), (4096, true, last), (1 << 20, false, 0), (5000, false, last),
    ] {
      let reader = Trainee(mesh, sharded: isSharded, bucketBytes: bucketBytes)
      var asked = 0
      try reader.stream().fill(from: [StoredPart(0..<Trainee.count, rank: holder)]) { moment, range, values in
        let begin = moment.rawValue * Trainee.count + range.lowerBound
        for index in 0..<range.count { values[index] = file[begin + index] }
        asked += range.count
      }
      try expectEqual(asked, world.rank == holder ? 2 * Trainee.count : 0, "values read")
      for range in reader.optimizer.owned {
        for moment in AdamWOptimizer.Moment.allCases {
          try expect(
            Array(reader.optimizer.moments(moment, of: range)) == Array(whole.optimizer.moments(moment, of: range)),
            "moments \(moment) of \(range), buckets of \(bucketBytes) bytes")
        }
      }
    }
  },

  Check("every rank's own file has its share, and the files come back to any owners") { world in
    let mesh = try RankMesh(world)
    let whole = Trainee(mesh, sharded: false)
    _ = try whole.step(1)
    for (writerBytes, isSharded) in [(100_000, true), (3000, false)] {
      let writer = Trainee(mesh, sharded: isSharded, bucketBytes: writerBytes)
      _ = try writer.step(1)
      let shard = MomentShard(writer.optimizer, writer.reducer)
      var file: [Float] = []
      try shard.read { file += $0 }
      try expectEqual(file.count, 2 * shard.slices.reduce(0) { $0 + $1.count }, "values of this rank")
      // The files of other ranks than wrote them: as after a change of hosts.
      let reader = (world.rank + 1) % world.worldSize
      let readers = try world.allGather(reader)
      let ends = try world.allGather(shard.slices.map { "\($0.lowerBound) \($0.upperBound)" }.joined(separator: " "))
      var parts: [StoredPart] = []
      for (rank, text) in ends.enumerated() {
        let ends = text.split(separator: " ").compactMap { Int($0) }
        parts += stride(from: 0, to: ends.count, by: 2).map {
          StoredPart(ends[$0]..<ends[$0 + 1], rank: readers[rank])
        }
      }
      parts.sort { $0.range.lowerBound < $1.range.lowerBound }
      try expect(StoredPart.cover(parts, count: Trainee.count), "the shares do not make up the arena")
      let files = try world.allGather(file.withUnsafeBytes { Array($0) }).map(floats)
      let written = (world.rank + world.worldSize - 1) % world.worldSize
      let slices = parts.filter { $0.rank == world.rank }.map(\.range)
      for (bucketBytes, sharded) in [(100_000, true), (4096, true), (1 << 20, false)] {
        let other = Trainee(mesh, sharded: sharded, bucketBytes: bucketBytes)
        var strays = 0
        try other.stream().fill(from: parts) { moment, range, values in
          var begin = moment.rawValue * files[written].count / 2
          for slice in slices where slice.lowerBound < range.lowerBound {
            begin += slice.clamped(to: 0..<range.lowerBound).count
          }
          if !slices.contains(where: { $0.clamped(to: range) == range }) { strays += 1 }
          for index in 0..<range.count { values[index] = files[written][begin + index] }
        }
        try expectEqual(strays, 0, "ranges asked of a rank that does not have them")
        for range in other.optimizer.owned {
          for moment in AdamWOptimizer.Moment.allCases {
            try expect(
              Array(other.optimizer.moments(moment, of: range)) == Array(whole.optimizer.moments(moment, of: range)),
              "moments \(moment) of \(range), buckets of \(bucketBytes) bytes")
          }
        }
      }
    }
  },

  Check("a group says the same to all its members, failures too") { world in
    let group = try world.group(0)
    let own = [UInt8](repeating: UInt8(world.rank), count: 3 * world.rank)
    let all = try group.allGather(own)
    try expect(all == (0..<world.worldSize).map { Array(repeating: UInt8($0), count: 3 * $0) }, "\(all)")
    try expectEqual(try group.together { world.rank }, world.rank, "value")
    var failures: RankFailures?
    do {
      try group.together { if world.rank == world.worldSize - 1 { throw DiskFull() } }
    } catch let error as RankFailures {
      failures = error
    }
    try expectEqual(failures?.failures.map(\.rank), [world.worldSize - 1], "ranks that failed")
    try expectEqual(failures?.worldSize, world.worldSize, "ranks")
  },

  Check("a write that fails leaves no rank waiting") { world in
    let trainee = Trainee(try RankMesh(world), sharded: true)
    _ = try trainee.step(1)
    let stream = try trainee.stream()
    // Before anything was read, and in the middle.
    for limit in [0, 40_000] {
      var failed = false
      do {
        try stream.serving {
          if limit == 0 { throw DiskFull() }
          var count = 0
          try stream.read { values in
            count += values.count
            if count > limit { throw DiskFull() }
          }
        }
      } catch is DiskFull {
        failed = true
      }
      try expectEqual(failed, world.isRoot, "failed")
    }
    let values = try written(trainee)
    try expectEqual(values.count, world.isRoot ? 2 * Trainee.count : 0, "values written after that")
  },

  Check("an optimizer that owns nothing, one value, or ranges that touch") { _ in
    for owned in [[], [5..<6], [0..<7, 7..<9, 20..<20, 30..<40]] as [[Range<Int>]] {
      let parameters = AlignedBuffer<Float>(count: 40)
      let gradients = AlignedBuffer<Float>(count: 40)
      for index in 0..<40 { gradients[index] = 1 }
      let optimizer = AdamWOptimizer(
        parameters: parameters.values, gradients: gradients.values, decayRanges: [3..<8], hyperparameters: .init(),
        owned: owned)
      optimizer.step(learningRate: 0.5)
      for index in 0..<40 {
        let moved = owned.contains { $0.contains(index) }
        try expect((parameters[index] != 0) == moved, "parameter \(index) with \(owned)")
      }
      try expectEqual(optimizer.moments(.first).count, owned.reduce(0) { $0 + $1.count }, "moments")
    }
  },
]
