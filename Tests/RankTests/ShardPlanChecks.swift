import DataParallel

/// Plans need no ranks: every check looks at those of many worlds.
private let grids = [
  RankGrid(nodes: [0]), RankGrid(nodes: [0, 0]), RankGrid(nodes: [0, 0, 0]), RankGrid(nodes: [0, 0, 0, 0]),
  RankGrid(nodes: [5, 7]), RankGrid(nodes: [0, 0, 2, 2]), RankGrid(nodes: [0, 1, 0, 1]), RankGrid(nodes: [0, 0, 2]),
  RankGrid(nodes: [0, 0, 0, 0, 0, 0], ranksPerNode: 2),
]

let shardPlanChecks: [Check] = [
  Check("grid of ranks") { _ in
    let grid = RankGrid(nodes: [0, 0, 2, 2, 4, 4])
    try expectEqual(grid.ranks, [[0, 1], [2, 3], [4, 5]], "three nodes of two")
    try expectEqual(RankGrid(nodes: [0, 1, 0, 1]).ranks, [[0, 2], [1, 3]], "ranks dealt out over nodes")
    let uneven = RankGrid(nodes: [0, 0, 2])
    try expectEqual(uneven.ranks, [[0, 1, 2]], "nodes of two and of one")
    try expect(uneven.isJoined && uneven.nodeCount == 2 && uneven.nodes == [0, 0, 1], "\(uneven)")
    try expectEqual(RankGrid(nodes: [0, 0, 0, 0], ranksPerNode: 2).ranks, [[0, 1], [2, 3]], "two to a node")
    try expect(RankGrid(nodes: [0, 0, 0], ranksPerNode: 2).isJoined, "three ranks cannot be two to a node")
    let places = RankGrid(nodes: [0, 1, 0, 1]).places
    try expect(places[1] == (1, 0) && places[2] == (0, 1), "\(places)")
  },

  Check("slices cover every bucket once, evenly") { _ in
    for grid in grids {
      for (count, bucketValues) in [(0, 4), (1, 4), (1000, 64), (1001, 160), (100_003, 4096), (37, 1 << 20)] {
        let plan = ShardPlan(valueCount: count, bucketValues: bucketValues, grid: grid)
        let what = "\(count) values in buckets of \(bucketValues), \(grid.ranks)"
        var end = 0
        for bucket in 0..<plan.bucketCount {
          let range = plan.bucket(bucket)
          try expect(range.lowerBound == end && !range.isEmpty && range.count <= bucketValues, "\(what): \(range)")
          end = range.upperBound
          let slices = (0..<plan.rankCount).map { plan.slice(bucket, of: $0) }
          var covered = range.lowerBound
          for slice in slices.sorted(by: { ($0.lowerBound, $0.upperBound) < ($1.lowerBound, $1.upperBound) }) {
            try expectEqual(slice.lowerBound, covered, "\(what): beginning of a slice")
            try expect(slice.isEmpty || (slice.lowerBound - range.lowerBound) % 16 == 0, "\(what): \(slice)")
            covered = slice.upperBound
          }
          try expectEqual(covered, range.upperBound, "\(what): end of the slices")
          let counts = slices.map(\.count)
          try expect((counts.max() ?? 0) - (counts.min() ?? 0) <= 31, "\(what): sizes \(counts)")
          // The part of a place is the slices of its ranks.
          for place in 0..<grid.ranksPerRow {
            let own = grid.ranks.map { plan.slice(bucket, of: $0[place]) }
            let part = plan.part(bucket, at: place)
            try expect(
              part.lowerBound == own[0].lowerBound && part.upperBound == own[own.count - 1].upperBound
                && part.count == own.reduce(0) { $0 + $1.count }, "\(what): part \(part) of \(own)")
          }
        }
        try expectEqual(end, count, "\(what): end of the buckets")
        let all = (0..<plan.rankCount).reduce(0) { $0 + plan.slices(of: $1).reduce(0) { $0 + $1.count } }
        try expectEqual(all, count, "\(what): values that ranks own")
      }
    }
  },

  Check("buckets complete below an offset") { _ in
    let plan = ShardPlan(valueCount: 10, bucketValues: 4, grid: grids[1])
    try expectEqual([0, 3, 4, 7, 8, 9, 10].map(plan.bucketsComplete), [0, 0, 1, 1, 2, 2, 3], "buckets")
    try expectEqual(ShardPlan(valueCount: 8, bucketValues: 4, grid: grids[1]).bucketsComplete(below: 8), 2, "buckets")
  },
]
