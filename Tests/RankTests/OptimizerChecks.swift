import Collectives
import DataParallel
import Glibc
import Kernels
import Tensors

/// The gradient a pair of the global batch gives in a step; any rank may hold the pair. Whole numbers: their sums,
/// and the sum of the squares of these, are exact, so that every way to deal out the pairs must lead to the same
/// bits.
private func gradient(step: Int, pair: Int, count: Int) -> [Float] {
  var random = CounterRandom(seed: UInt64(step), stream: UInt64(pair))
  return (0..<count).map { _ in Float(Int(random.next() % 2001) - 1000) }
}

private func startingPoint(_ arena: borrowing AlignedBuffer<Float>) {
  var random = CounterRandom(seed: 99, stream: 0)
  for index in 0..<arena.count { arena[index] = random.normal() }
}

let optimizerChecks: [Check] = [
  Check("data-parallel AdamW steps equal those of one process") { world in
    let count = 300_001
    let pairs = 7
    let decayRanges = [1000..<200_000, 250_000..<count]
    let hyperparameters = AdamW.Hyperparameters(weightDecay: 0.1)
    let parameters = AlignedBuffer<Float>(count: count)
    let gradients = AlignedBuffer<Float>(count: count)
    let aloneParameters = AlignedBuffer<Float>(count: count)
    let aloneGradients = AlignedBuffer<Float>(count: count)
    startingPoint(parameters)
    startingPoint(aloneParameters)
    let optimizer = AdamWOptimizer(
      parameters: parameters.values, gradients: gradients.values, decayRanges: decayRanges,
      hyperparameters: hyperparameters)
    let alone = AdamWOptimizer(
      parameters: aloneParameters.values, gradients: aloneGradients.values, decayRanges: decayRanges,
      hyperparameters: hyperparameters)
    let reducer = GradientReducer(mesh: try RankMesh(world), gradients: gradients.values, bucketBytes: 100_000)
    for step in 1...2 {
      for index in 0..<count {
        gradients[index] = 0
        aloneGradients[index] = 0
      }
      for pair in 0..<pairs {
        let values = gradient(step: step, pair: pair, count: count)
        for index in 0..<count { aloneGradients[index] += values[index] }
        if pair % world.worldSize == world.rank {
          for index in 0..<count { gradients[index] += values[index] }
        }
      }
      try reducer.ready(upTo: count / 2)
      try reducer.finish()
      let norm = try reducer.globalNorm()
      let aloneNorm = aloneGradients.values.reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot()
      try expectEqual(norm, aloneNorm, "norm")
      optimizer.step(learningRate: 1e-3, gradientScale: GradientReducer.clipScale(norm: norm, maxNorm: 1))
      alone.step(learningRate: 1e-3, gradientScale: GradientReducer.clipScale(norm: aloneNorm, maxNorm: 1))
    }
    try world.requireSameParameters(parameters.values)
    try world.requireSameParameters(optimizer.moments(.second), "second moments")
    try expectEqual(optimizer.stepCount, 2, "steps")
    for index in 0..<count {
      try expectEqual(parameters[index], aloneParameters[index], "parameter \(index)")
    }
  },

  Check("weight decay stays inside its ranges") { _ in
    let count = 700_000
    let ranges = [600_000..<650_000, 3..<5, 10..<10]
    let parameters = AlignedBuffer<Float>(count: count)
    let gradients = AlignedBuffer<Float>(count: count)
    for index in 0..<count { parameters[index] = 1 }
    let optimizer = AdamWOptimizer(
      parameters: parameters.values, gradients: gradients.values, decayRanges: ranges,
      hyperparameters: .init(weightDecay: 0.5))
    optimizer.step(learningRate: 0.5)
    for index in 0..<count {
      try expectEqual(parameters[index], ranges.contains { $0.contains(index) } ? 0.75 : 1, "parameter \(index)")
    }
  },

  Check("an update on several threads gives the same bits") { _ in
    let count = 600_011
    var bits: [UInt64] = []
    for threads in [1, 3] {
      let parameters = AlignedBuffer<Float>(count: count)
      let gradients = AlignedBuffer<Float>(count: count)
      startingPoint(parameters)
      for index in 0..<count { gradients[index] = parameters[count - 1 - index] }
      let optimizer = AdamWOptimizer(
        parameters: parameters.values, gradients: gradients.values, decayRanges: [7..<count - 9],
        hyperparameters: .init(weightDecay: 0.1))
      let pool = threads == 1 ? nil : ThreadPool(threads: threads)
      optimizer.step(learningRate: 0.01, pool: pool)
      pool?.stop()
      bits.append(ParameterChecksum.of(UnsafeBufferPointer(parameters.values)))
    }
    try expectEqual(bits[0], bits[1], "checksum")
  },

  Check("checksum sees every value, its place and the count") { _ in
    for count in [0, 1, 15, 16, 17, 40, 1000] {
      let arena = AlignedBuffer<Float>(count: count)
      for index in 0..<count { arena[index] = Float(index) }
      func checksum(_ length: Int) -> UInt64 {
        ParameterChecksum.of(UnsafeBufferPointer(rebasing: arena.values[..<length]))
      }
      var seen: Set<UInt64> = [checksum(count)]
      for index in 0..<count {
        let value = arena[index]
        arena[index] = -value - 1
        seen.insert(checksum(count))
        arena[index] = value.nextUp
        seen.insert(checksum(count))
        arena[index] = value
      }
      try expectEqual(seen.count, 1 + 2 * count, "checksums of \(count) values with one changed")
      if count > 1 {
        try expect(checksum(count - 1) != checksum(count), "the count does not show")
        for other in 1..<count {
          arena.values.swapAt(0, other)
          try expect(seen.insert(checksum(count)).inserted, "swapping 0 and \(other) of \(count) does not show")
          arena.values.swapAt(0, other)
        }
      }
    }
    // Zeros of either sign are different bits.
    let zeros = AlignedBuffer<Float>(count: 3)
    let plus = ParameterChecksum.of(UnsafeBufferPointer(zeros.values))
    zeros[1] = -0.0
    try expect(ParameterChecksum.of(UnsafeBufferPointer(zeros.values)) != plus, "a zero's sign does not show")
  },

  Check("requireSameParameters names the rank whose parameters differ") { world in
    let arena = AlignedBuffer<Float>(count: 10_000)
    startingPoint(arena)
    try world.requireSameParameters(arena.values)
    guard world.worldSize > 1 else { return }
    let odd = world.worldSize - 1
    if world.rank == odd { arena[9_999] = arena[9_999].nextUp }
    var found: RankDifference?
    do {
      try world.requireSameParameters(arena.values, "parameters after step 3")
    } catch let difference as RankDifference {
      found = difference
    }
    try expectEqual(found?.differences.map(\.rank), [odd], "ranks that differ")
    try expect(
      found?.description.contains("the same parameters after step 3") == true, "message: \(found.debugDescription)")
  },
]
