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
    // Read by ranks that own other slices, or everything.
    for (bucketBytes, isSharded) in [(100_000, true), (4096, true), (1 << 20, false)] {
      let reader = Trainee(mesh, sharded: isSharded, bucketBytes: bucketBytes)
      try reader.stream().fill { moment, range, values in
        let begin = moment.rawValue * Trainee.count + range.lowerBound
        for index in 0..<range.count { values[index] = files.0[begin + index] }
      }
      for range in reader.optimizer.owned {
        for moment in AdamWOptimizer.Moment.allCases {
          try expect(
            Array(reader.optimizer.moments(moment, of: range)) == Array(whole.optimizer.moments(moment, of: range)),
            "moments \(moment) of \(range), buckets of \(bucketBytes) bytes")
        }
      }
    }
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
