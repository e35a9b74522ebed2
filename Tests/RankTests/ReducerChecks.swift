import Collectives
import DataParallel
import Glibc
import Tensors

/// Gradients of one rank: whole numbers, whose sums are exact in any order.
private func wholeGradients(_ count: Int, rank: Int) -> [Float] {
  var random = CounterRandom(seed: 5, stream: UInt64(rank))
  return (0..<count).map { _ in Float(Int(random.next() % 2001) - 1000) }
}

/// What every rank must hold after the reduction.
private func expectedSum(_ count: Int, ranks: some Sequence<Int>) -> [Float] {
  var sum = [Float](repeating: 0, count: count)
  for rank in ranks {
    for (index, value) in wholeGradients(count, rank: rank).enumerated() { sum[index] += value }
  }
  return sum
}

private func fill(_ arena: borrowing AlignedBuffer<Float>, _ values: [Float]) {
  for index in 0..<values.count { arena.pointer[index] = values[index] }
}

let reducerChecks: [Check] = [
  Check("reducer equals the sum for every bucket size") { world in
    let count = 203
    let expected = expectedSum(count, ranks: 0..<world.worldSize)
    let mesh = try RankMesh(world)
    for bucketBytes in [1, 4, 8, 28, 400, 812, 816, 1 << 20] {
      let arena = AlignedBuffer<Float>(count: count)
      let reducer = GradientReducer(mesh: mesh, gradients: arena.values, bucketBytes: bucketBytes)
      for step in 0..<2 {
        fill(arena, wholeGradients(count, rank: world.rank))
        // Ranks finish tensors at their own pace; a repeated offset is nothing new.
        var offset = 0
        while offset < count {
          offset = min(offset + 19 + 10 * world.rank + step, count)
          try reducer.ready(upTo: offset)
          try reducer.ready(upTo: offset)
        }
        try reducer.finish()
        try expect(Array(arena.values) == expected, "the sum with buckets of \(bucketBytes) bytes, step \(step)")
      }
      let sent = world.worldSize == 1 ? 0 : 2 * count * 4
      try expectEqual(reducer.totals.reducedBytes, sent, "bytes reduced")
      try expectEqual(
        reducer.totals.reducedBuckets, world.worldSize == 1 ? 0 : 2 * reducer.plan.bucketCount, "buckets reduced")
    }
  },

  Check("reducer sums a bucket as soon as it is complete") { world in
    let arena = AlignedBuffer<Float>(count: 10)
    let reducer = GradientReducer(mesh: try RankMesh(world), gradients: arena.values, bucketBytes: 16)
    for index in 0..<10 { arena[index] = 1 }
    try reducer.ready(upTo: 7)
    let ranks = Float(world.worldSize)
    let early = Array(arena.values)
    try reducer.finish()
    try expectEqual(early, [ranks, ranks, ranks, ranks, 1, 1, 1, 1, 1, 1], "after ready(upTo: 7)")
    try expectEqual(Array(arena.values), [Float](repeating: ranks, count: 10), "after finish")
  },

  Check("reducer with a rank that has no gradients") { world in
    let count = 501
    let idle = world.worldSize - 1
    let working = world.worldSize == 1 ? [0] : Array(0..<idle)
    let arena = AlignedBuffer<Float>(count: count)
    let reducer = GradientReducer(mesh: try RankMesh(world), gradients: arena.values, bucketBytes: 64)
    if working.contains(world.rank) {
      fill(arena, wholeGradients(count, rank: world.rank))
      try reducer.ready(upTo: 100)
      try reducer.ready(upTo: count)
    }
    try reducer.finish()
    try expect(Array(arena.values) == expectedSum(count, ranks: working), "the sum without rank \(idle)")
  },

  Check("reducer without a gradient") { world in
    let arena = AlignedBuffer<Float>(count: 0)
    let reducer = GradientReducer(mesh: try RankMesh(world), gradients: arena.values)
    try reducer.ready(upTo: 0)
    try reducer.finish()
    let norm = try reducer.globalNorm()
    try expectEqual(norm, 0, "norm")
  },

  Check("global norm is right and the same on all ranks") { world in
    let mesh = try RankMesh(world)
    for count in [1, 15, 16, 33, 1 << 14, (1 << 14) + 1, 100_003] {
      let arena = AlignedBuffer<Float>(count: count)
      var random = CounterRandom(seed: 1, stream: UInt64(count))
      for index in 0..<count { arena[index] = random.normal() * Float(pow(10, Double(random.next() % 30) - 24)) }
      let reference = arena.values.reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot()
      let norm = try GradientReducer(mesh: mesh, gradients: arena.values).globalNorm()
      let bits = try world.allGather(Int(bitPattern: UInt(norm.bitPattern)))
      try expect(bits.allSatisfy { $0 == bits[0] }, "\(count) values: the bits differ: \(bits)")
      try expect(abs(norm - reference) <= 1e-12 * reference, "\(count) values: \(norm), not \(reference)")
    }
  },

  Check("a gradient that is not finite shows in every rank's norm") { world in
    for value in [Float.nan, .infinity] {
      let arena = AlignedBuffer<Float>(count: 70_000)
      arena[69_999] = value
      let norm = try GradientReducer(mesh: try RankMesh(world), gradients: arena.values).globalNorm()
      let finite = try world.allGather(norm.isFinite ? 1 : 0)
      try expectEqual(finite, [Int](repeating: 0, count: world.worldSize), "finite norms")
    }
  },

  Check("clipping") { world in
    try expectEqual(GradientReducer.clipScale(norm: 0.5, maxNorm: 1), 1, "scale below the maximum")
    try expectEqual(GradientReducer.clipScale(norm: 4, maxNorm: 1), Float(1 / (4 + 1e-6)), "scale above the maximum")
    try expectEqual(GradientReducer.clipScale(norm: 4, maxNorm: 0), 1, "scale without a maximum")
    try expectEqual(GradientReducer.clipScale(norm: .infinity, maxNorm: 1), 0, "scale of an infinite norm")
    try expect(GradientReducer.clipScale(norm: .nan, maxNorm: 1).isNaN, "the scale of NaN is a number")
    let arena = AlignedBuffer<Float>(count: 2)
    fill(arena, [3, -4])
    GradientReducer(mesh: try RankMesh(world), gradients: arena.values).clip(norm: 5, maxNorm: 1)
    try expect(abs(arena[0] - 0.6) < 1e-6 && abs(arena[1] + 0.8) < 1e-6, "\(Array(arena.values))")
  },
]
