import Packing

/// Among how many ranks a step's pairs are divided, and how.
package struct BatchDivision: Sendable, Equatable {
  package var worldSize: Int
  /// Parts of a step that does not depend on the ranks; one part a rank when nil.
  package var parts: Int?

  package init(worldSize: Int, parts: Int? = nil) {
    self.worldSize = worldSize
    self.parts = parts
  }

  /// Where each rank's parts lie among all of them, were none empty: consecutive ones, as even as may be.
  package var shares: [Range<Int>] {
    let count = parts ?? worldSize
    return (0..<worldSize).map { count * $0 / worldSize..<count * ($0 + 1) / worldSize }
  }
}

/// One optimizer step: its pairs, who computes them, and the weight of each in the step's loss.
package struct StepPlan: Sendable {
  /// The global batch in order, as indices into the data set.
  package let pairs: [Int]
  /// The pairs dealt out evenly by their work, in global order: one part a rank, or as many parts as are always added up
  /// in the same order, whatever the number of ranks; those are not empty.
  package let parts: [[Int]]
  /// The parts each rank computes. Every pair is in one part; there may be ranks without any.
  package let shares: [Range<Int>]
  /// Planned work of each rank.
  package let costs: [Double]
  /// Weight of one odds-ratio term in the step's loss.
  package let oddsWeight: Double

  private let weights: [Int: Double]
  private let rows: [Int: Int]

  init(
    pairs: [Int], measures: [PairMeasure], division: BatchDivision, deviceBatch: Int,
    normalization: LossNormalization, nllTokens: NLLTokens
  ) {
    precondition(division.worldSize > 0 && deviceBatch > 0, "rank counts and batch sizes are at least 1")
    self.pairs = pairs
    let costs = pairs.map { measures[$0].cost }
    let dealt =
      division.parts.map { Self.halve(costs: costs, over: $0) } ?? Self.deal(costs: costs, over: division.worldSize)
    var parts = dealt.map { $0.map { pairs[$0] } }
    var shares = division.shares
    if division.parts != nil {
      // Nothing is summed for a part without pairs.
      let filled = parts.indices.filter { !parts[$0].isEmpty }
      parts = filled.map { parts[$0] }
      shares = shares.map { share in
        filled.count { $0 < share.lowerBound }..<filled.count { $0 < share.upperBound }
      }
    }
    self.parts = parts
    self.shares = shares
    self.costs = shares.map { $0.reduce(0) { $0 + parts[$1].reduce(0) { $0 + measures[$1].cost } } }
    oddsWeight = pairs.isEmpty ? 0 : 1 / Double(pairs.count)
    rows = Dictionary(uniqueKeysWithValues: pairs.map { ($0, measures[$0].rows) })
    let tokens = pairs.map { nllTokens.count(measures[$0]) }
    weights = Dictionary(
      uniqueKeysWithValues: zip(pairs, Self.weights(tokens: tokens, normalization, deviceBatch: deviceBatch)))
  }

  package var pairCount: Int { pairs.count }

  /// Pairs of a rank.
  package func pairs(rank: Int) -> [Int] { shares[rank].flatMap { parts[$0] } }

  /// Coefficient of each NLL token of `pair` in the step's loss.
  package func nllTokenWeight(_ pair: Int) -> Double {
    guard let weight = weights[pair] else { preconditionFailure("pair \(pair) is not in this step") }
    return weight
  }

  /// Busiest rank's work over the mean: 1 is perfect.
  package var imbalance: Double {
    let mean = costs.reduce(0, +) / Double(costs.count)
    return mean > 0 ? (costs.max() ?? 0) / mean : 1
  }

  private static func weights(
    tokens: [Int], _ normalization: LossNormalization, deviceBatch: Int
  ) -> [Double] {
    // A pair without a token has nothing to weigh; one instead of zero keeps its weight finite.
    switch normalization {
    case .pair: return tokens.map { 1 / (Double(tokens.count) * Double(max($0, 1))) }
    case .token:
      let total = Double(max(tokens.reduce(0, +), 1))
      return tokens.map { _ in 1 / total }
    case .microbatch:
      let batches = (tokens.count + deviceBatch - 1) / deviceBatch
      return tokens.indices.map { index in
        let first = index / deviceBatch * deviceBatch
        let inBatch = tokens[first..<min(first + deviceBatch, tokens.count)].reduce(0, +)
        return 1 / (Double(batches) * Double(max(inBatch, 1)))
      }
    }
  }
}

extension StepPlan {
  /// All micro-batches of a rank, part after part.
  package func microBatches(rank: Int, rowsPerMicroBatch: Int) -> [[Int]] {
    shares[rank].flatMap { microBatches(part: $0, rowsPerMicroBatch: rowsPerMicroBatch) }
  }

  /// A part's pairs in groups of at most `rowsPerMicroBatch` rows; a longer pair is a group of its own. As few groups
  /// as first-fit finds, evened out when that is possible without exceeding the limit. The group with most rows comes
  /// first: what memory it needs shows at once.
  package func microBatches(part: Int, rowsPerMicroBatch: Int) -> [[Int]] {
    let pairs = parts[part]
    let sizes = pairs.map { rows[$0] ?? 0 }
    let descending = pairs.indices.sorted { (sizes[$1], $0) < (sizes[$0], $1) }
    var groups: [(rows: Int, members: [Int])] = []
    for index in descending {
      if let fit = groups.firstIndex(where: { $0.rows + sizes[index] <= rowsPerMicroBatch }) {
        groups[fit].rows += sizes[index]
        groups[fit].members.append(index)
      } else {
        groups.append((sizes[index], [index]))
      }
    }
    let even = Self.deal(costs: sizes.map(Double.init), over: groups.count)
      .map { members in (rows: members.reduce(0) { $0 + sizes[$1] }, members: members) }
    let fits = even.allSatisfy { $0.rows <= rowsPerMicroBatch || $0.members.count == 1 }
    return (fits ? even : groups)
      .map { (rows: $0.rows, members: $0.members.sorted()) }
      .sorted { ($1.rows, $0.members.first ?? 0) < ($0.rows, $1.members.first ?? 0) }
      .map { $0.members.map { pairs[$0] } }
  }

  /// Indices of `costs` dealt over `count` bins so that the fullest is nearly as full as the mean: longest first to the
  /// least loaded, then single moves and swaps out of the fullest bin while they help. Ties go to the lower index, so
  /// that all ranks agree.
  static func deal(costs: [Double], over count: Int) -> [[Int]] {
    var bins = [[Int]](repeating: [], count: count)
    var loads = [Double](repeating: 0, count: count)
    for index in costs.indices.sorted(by: { (costs[$1], $0) < (costs[$0], $1) }) {
      var least = 0
      for bin in 1..<max(count, 1) where loads[bin] < loads[least] { least = bin }
      bins[least].append(index)
      loads[least] += costs[index]
    }
    // Among many pairs the first pass is already even, and looking at every exchange would take long.
    guard count > 1, costs.count <= 2048 else { return bins }
    let even = costs.reduce(0, +) / Double(count) * 1.0005
    for _ in 0..<(4 * count) where loads.contains(where: { $0 > even }) {
      guard improve(&bins, &loads, costs) else { break }
    }
    return bins.map { $0.sorted() }
  }

  /// Indices of `costs` dealt over `count` bins so that neighbouring bins together are as even as can be: first over the
  /// lower and the upper half of the bins, then each over its own halves. Bins may stay empty.
  static func halve(costs: [Double], over count: Int) -> [[Int]] {
    guard count > 1 else { return [Array(costs.indices)] }
    // An odd number has no halves; its bins are dealt to one by one.
    let ways = count % 2 == 0 ? 2 : count
    return deal(costs: costs, over: ways).flatMap { members in
      halve(costs: members.map { costs[$0] }, over: count / ways).map { $0.map { members[$0] } }
    }
  }

  /// The one exchange between the fullest bin and another that lowers the larger of the two the most.
  private static func improve(_ bins: inout [[Int]], _ loads: inout [Double], _ costs: [Double]) -> Bool {
    var full = 0
    for bin in loads.indices where loads[bin] > loads[full] { full = bin }
    // Gains below rounding would let the search wander.
    var best = loads[full] * (1 - 1e-9)
    var change: (bin: Int, out: Int, back: Int?)?
    for bin in bins.indices where bin != full {
      for out in bins[full].indices {
        for back in [nil] + bins[bin].indices.map(Optional.some) {
          let moved = costs[bins[full][out]] - (back.map { costs[bins[bin][$0]] } ?? 0)
          let larger = max(loads[full] - moved, loads[bin] + moved)
          if larger < best {
            best = larger
            change = (bin, out, back)
          }
        }
      }
    }
    guard let change else { return false }
    let taken = bins[full].remove(at: change.out)
    if let back = change.back { bins[full].append(bins[change.bin].remove(at: back)) }
    bins[change.bin].append(taken)
    loads[full] = bins[full].reduce(0) { $0 + costs[$1] }
    loads[change.bin] = bins[change.bin].reduce(0) { $0 + costs[$1] }
    return true
  }
}
