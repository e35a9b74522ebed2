import Collectives
import DataParallel
import Glibc
import Tensors

/// A way to build the mesh, with the name it has in messages.
private struct MeshKind {
  var name: String
  var ranksPerNode: Int?
  var windowBytes = 8 << 20

  /// All that make sense for this many ranks; those with several nodes have them on this host.
  static func all(ranks: Int) -> [MeshKind] {
    var kinds = [
      MeshKind(name: "window"), MeshKind(name: "small window", windowBytes: 4096),
      MeshKind(name: "no window", windowBytes: 0),
    ]
    for size in 1..<max(ranks, 2) {
      kinds.append(MeshKind(name: "\(size) ranks a node", ranksPerNode: size))
      kinds.append(MeshKind(name: "\(size) ranks a node, no window", ranksPerNode: size, windowBytes: 0))
    }
    return kinds
  }

  func mesh(_ world: Communicator, _ wireDType: WireDType = .fp32) throws -> RankMesh {
    try RankMesh(world, wireDType: wireDType, ranksPerNode: ranksPerNode, windowBytes: windowBytes)
  }
}

/// Gradients whose sums round, of very different sizes.
private func gradients(_ count: Int, rank: Int, seed: UInt64 = 3) -> [Float] {
  var random = CounterRandom(seed: seed, stream: UInt64(rank))
  return (0..<count).map { _ in random.normal() * Float(exp2(Double(random.next() % 20) - 10)) }
}

/// The sum as the mesh must form it: on every node over its places, then over nodes.
private func expectedSums(_ count: Int, _ grid: RankGrid, seed: UInt64 = 3) -> [Float] {
  treeSum(grid.ranks.map { members in treeSum(members.map { gradients(count, rank: $0, seed: seed) }) })
}

/// Neighbours added up, then pairs of neighbours, and so on; what is left over from the right.
func treeSum(_ terms: [[Float]]) -> [Float] {
  func add(_ a: [Float], _ b: [Float]) -> [Float] { zip(a, b).map { $0 + $1 } }
  /// The sum of the largest power of two of terms, then of the rest.
  func sum(_ terms: ArraySlice<[Float]>) -> [Float] {
    if terms.count == 1 { return terms[terms.startIndex] }
    var half = 1
    while half * 2 < terms.count { half *= 2 }
    return add(sum(terms.prefix(half)), sum(terms.dropFirst(half)))
  }
  return sum(terms[...])
}

private func fill(_ arena: borrowing AlignedBuffer<Float>, _ values: [Float]) {
  for index in 0..<values.count { arena.pointer[index] = values[index] }
}

let meshChecks: [Check] = [
  Check("sums in a fixed order, whatever they travel through") { world in
    for kind in MeshKind.all(ranks: world.worldSize) {
      let mesh = try kind.mesh(world)
      for (count, bucketBytes) in [(1, 4), (500, 64), (4099, 4096), (70_001, 100_000), (300_000, 1 << 24)] {
        let expected = expectedSums(count, mesh.grid)
        for overlaps in [false, true] {
          for result in [GradientReducer.Result.everything, .ownSlices] {
            let arena = AlignedBuffer<Float>(count: count)
            let reducer = GradientReducer(
              mesh: mesh, gradients: arena.values, result: result, bucketBytes: bucketBytes, overlaps: overlaps)
            for step in 0..<2 {
              fill(arena, gradients(count, rank: world.rank))
              // The last rank has no micro-batch in the second step, only gradients of the ones before it.
              if step == 0 || world.rank < world.worldSize - 1 {
                for offset in stride(from: 0, to: count, by: count / 3 + 1) { try reducer.ready(upTo: offset) }
              }
              try reducer.finish()
              let slices = result == .everything ? [0..<count] : reducer.plan.slices(of: world.rank)
              let wrong = slices.joined().first { arena.pointer[$0].bitPattern != expected[$0].bitPattern }
              let wrongs = try world.allGather(wrong ?? -1)
              try expect(
                wrongs.allSatisfy { $0 == -1 },
                "\(kind.name), \(count) values in buckets of \(bucketBytes) bytes, overlap \(overlaps), \(result), "
                  + "step \(step): the first wrong values by rank are \(wrongs)")
            }
          }
        }
      }
    }
  },

  Check("parameters are gathered from their owners") { world in
    let count = 100_003
    for kind in MeshKind.all(ranks: world.worldSize) {
      let arena = AlignedBuffer<Float>(count: count)
      let gradients = AlignedBuffer<Float>(count: count)
      let reducer = GradientReducer(
        mesh: try kind.mesh(world), gradients: gradients.values, result: .ownSlices, bucketBytes: 40_000)
      for index in 0..<count { arena[index] = -1 }
      for index in reducer.plan.slices(of: world.rank).joined() { arena[index] = Float(index) }
      try reducer.gatherParameters(arena.values)
      let wrong = (0..<count).first { arena[$0] != Float($0) }
      try expect(wrong == nil, "\(kind.name): parameter \(wrong ?? 0) is \(arena[wrong ?? 0])")
    }
  },

  Check("several nodes are told apart, and no window is no window") { world in
    let ranks = world.worldSize
    let mesh = try RankMesh(world, ranksPerNode: 1)
    try expectEqual(mesh.grid.rowCount, ranks, "nodes of one rank")
    try expectEqual(mesh.warning, nil, "warning")
    try expect(mesh.description == (ranks == 1 ? "one rank" : "messages between \(ranks) nodes"), mesh.description)
    guard ranks > 1 else { return }
    let shared = try RankMesh(world)
    try expectEqual(shared.description, "shared memory within the node", "description")
    // Larger than any folder: what cannot be had is said, on every rank, and messages do.
    let none = try RankMesh(world, windowBytes: 1 << 50, leastWindowBytes: 1 << 50)
    try expect(none.warning?.contains("messages, not shared memory: /dev/shm has ") == true, "\(none.warning ?? "")")
    try expectEqual(none.description, "messages within the node", "description")
  },

  Check("bf16 on the wire rounds what others send, once") { world in
    guard world.worldSize > 1 else { return }
    let count = 5003
    for ranksPerNode in [1, 2] where world.worldSize > ranksPerNode {
      let mesh = try RankMesh(world, wireDType: .bf16, ranksPerNode: ranksPerNode)
      let arena = AlignedBuffer<Float>(count: count)
      let reducer = GradientReducer(mesh: mesh, gradients: arena.values, bucketBytes: 4096)
      fill(arena, gradients(count, rank: world.rank))
      try reducer.finish()
      try world.requireSameParameters(arena.values, "sums")
      // What each node contributes is rounded to bf16's 8 bits, unless the slice's owner is there.
      let exact = expectedSums(count, RankGrid(nodes: mesh.grid.nodes))
      var magnitude = [Float](repeating: 0, count: count)
      for rank in 0..<world.worldSize {
        for (index, value) in gradients(count, rank: rank).enumerated() { magnitude[index] += abs(value) }
      }
      var differing = 0
      for index in 0..<count {
        try expect(
          abs(arena[index] - exact[index]) <= magnitude[index] * 0x1.02p-8,
          "\(ranksPerNode) a node: sum \(index) is \(arena[index]), not \(exact[index])")
        if arena[index] != exact[index] { differing += 1 }
      }
      try expect(differing > count / 2, "only \(differing) of \(count) sums are rounded: nothing went as bf16")
      // Half the bytes: gradients one way at 2 bytes, sums back at 4, and each rank sends to each of the others.
      let sent = try world.allGather(mesh.sentBytes).reduce(0, +)
      let others = mesh.grid.isJoined ? nil : mesh.grid.rowCount - 1
      if let others { try expectEqual(sent, count * others * (2 + 4), "bytes sent between nodes") }
    }
  },

  Check("bf16 on the wire changes nothing on one node") { world in
    let count = 1009
    let arena = AlignedBuffer<Float>(count: count)
    for windowBytes in [0, 1 << 20] {
      let mesh = try RankMesh(world, wireDType: .bf16, windowBytes: windowBytes)
      fill(arena, gradients(count, rank: world.rank))
      try GradientReducer(mesh: mesh, gradients: arena.values).finish()
      let expected = expectedSums(count, mesh.grid)
      try expect(Array(arena.values) == expected, "window of \(windowBytes) bytes")
    }
  },

  Check("NaN and infinity survive every way") { world in
    for kind in MeshKind.all(ranks: world.worldSize) {
      for value in [Float.nan, .infinity, -.infinity] {
        let arena = AlignedBuffer<Float>(count: 333)
        if world.rank == world.worldSize - 1 { for index in 0..<333 { arena[index] = value } }
        try GradientReducer(mesh: kind.mesh(world, .bf16), gradients: arena.values, bucketBytes: 400).finish()
        let kept = arena.values.allSatisfy { value.isNaN ? $0.isNaN : $0 == value }
        try expect(kept, "\(kind.name): \(value) became \(Array(arena.values.prefix(3)))")
      }
    }
  },

  Check("what communication took is counted") { world in
    let count = 2_000_000
    for overlaps in [false, true] {
      let arena = AlignedBuffer<Float>(count: count)
      let reducer = GradientReducer(
        mesh: try RankMesh(world), gradients: arena.values, result: .ownSlices, bucketBytes: 1 << 20, overlaps: overlaps
      )
      try expectEqual(reducer.overlaps, overlaps && world.worldSize > 1, "overlap")
      try reducer.ready(upTo: count)
      // Backward goes on; the thread has all the time it needs.
      usleep(300_000)
      try reducer.finish()
      let before = reducer.totals
      try reducer.gatherParameters(arena.values)
      let after = reducer.totals
      guard world.worldSize > 1 else {
        try expectEqual(after, CommunicationTotals(), "one rank")
        continue
      }
      try expectEqual(before.reducedBytes, count * 4, "bytes")
      try expect(before.busySeconds > 0 && before.tailSeconds <= before.exposedSeconds, "\(before)")
      // Hidden behind the sleep, or done by the thread that called.
      try expect(
        overlaps ? before.exposedSeconds < 0.2 : before.exposedSeconds >= before.busySeconds, "\(before)")
      try expect(after.exposedSeconds > before.exposedSeconds, "gathering took no time: \(after)")
      try expectEqual(after.tailSeconds, before.tailSeconds, "tail")
    }
  },
]
