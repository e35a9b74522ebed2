import Collectives
import DataParallel
import Glibc
import Kernels
import Tensors

/// What part `part` of a step adds to the gradients.
private func gradients(_ count: Int, part: Int) -> [Float] {
  var random = CounterRandom(seed: 11, stream: UInt64(part))
  return (0..<count).map { _ in random.normal() * Float(exp2(Double(random.next() % 20) - 10)) }
}

/// The parts of each rank, consecutive and as even as may be.
private func shares(_ parts: Int, _ ranks: Int) -> [Range<Int>] {
  (0..<ranks).map { parts * $0 / ranks..<parts * ($0 + 1) / ranks }
}

let partSumChecks: [Check] = [
  Check("sums of parts have the same bits whoever computes which") { world in
    let pool = ThreadPool(threads: 2)
    defer { pool.stop() }
    for parts in [1, 2, 5, 8, 11] {
      let held = (0..<world.worldSize).map { rank in
        [parts, max(parts - 2, 1)].map { PartSpan.mostHeld(shares($0, world.worldSize)[rank]) }.max() ?? 0
      }
      for (name, mesh) in [
        ("window", try RankMesh(world, partialSums: max(held.max() ?? 1, 1))),
        ("small window", try RankMesh(world, partialSums: max(held.max() ?? 1, 1), windowBytes: 4096)),
        ("messages", try RankMesh(world, partialSums: max(held.max() ?? 1, 1), windowBytes: 0)),
        ("nodes of one", try RankMesh(world, ranksPerNode: 1, partialSums: max(held.max() ?? 1, 1))),
      ] {
        let count = 70_001
        let arena = AlignedBuffer<Float>(count: count)
        for (overlaps, result) in [(false, GradientReducer.Result.everything), (true, .ownSlices)] {
          let reducer = GradientReducer(
            mesh: mesh, gradients: arena.values, result: result, bucketBytes: 1 << 16, overlaps: overlaps,
            arenas: max(held[world.rank], 1))
          // A short last batch has fewer parts.
          for parts in Set([parts, max(parts - 2, 1)]).sorted() {
            let expected = treeSum((0..<parts).map { gradients(count, part: $0) })
            let all = shares(parts, world.worldSize)
            let own = all[world.rank]
            reducer.begin(all)
            for part in own {
              let place = reducer.beginPart(part)
              for (index, value) in gradients(count, part: part).enumerated() { place[index] = value }
              if part == own.last { try reducer.ready(upTo: count / 2) } else { reducer.endPart(pool) }
            }
            try reducer.finish()
            let norm = try reducer.globalNorm()
            let slices = result == .everything ? [0..<count] : reducer.plan.slices(of: world.rank)
            let wrong = slices.joined().first { arena.pointer[$0].bitPattern != expected[$0].bitPattern } ?? -1
            let wrongs = try world.allGather(wrong)
            try expect(
              wrongs.allSatisfy { $0 == -1 },
              "\(name), \(parts) parts, overlap \(overlaps), \(result): first wrong values by rank \(wrongs)")
            // Blocks of 2^14 values, in order.
            let blocks = stride(from: 0, to: count, by: 1 << 14).map { start in
              squares(expected[start..<min(start + 1 << 14, count)])
            }
            try expect(
              norm.bitPattern == blocks.reduce(0, +).squareRoot().bitPattern, "\(name), \(parts) parts: norm \(norm)")
          }
        }
      }
    }
  }
]

/// As one rank alone sums the squares of a block.
private func squares(_ values: ArraySlice<Float>) -> Double {
  // Eight lanes of 16 values, low and high halves apart, then the rest.
  var low = SIMD8<Double>.zero
  var high = SIMD8<Double>.zero
  var rest = 0.0
  let whole = values.count / 16 * 16
  for (index, value) in values.enumerated() {
    let square = Double(value)
    if index >= whole {
      rest += square * square
    } else if index % 16 < 8 {
      low[index % 8].addProduct(square, square)
    } else {
      high[index % 8].addProduct(square, square)
    }
  }
  return (low + high).sum() + rest
}
