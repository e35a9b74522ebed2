package import Packing
package import Preferences

/// The steps of a run as the sampler would deal them out: how many passes of which size each rank does.
package struct PlannedSteps: Sendable {
  /// Passes of each rank, in their order, for every simulated step.
  package var passes: [[[PassSize]]]
  /// Means over the simulated steps.
  package var pairsPerStep: Double
  package var rowsPerStep: Double
  package var tokensPerStep: Double

  /// Steps that are looked at: enough for a mean of lengths.
  private static let limit = 64

  /// - Parameters:
  ///   - cost: what pairs are dealt out by.
  ///   - parts: of a step that is summed in the same order on any number of ranks.
  package init(
    _ pairs: [TokenizedPair], shape: BatchShape, rowsPerMicroBatch: Int, cost: PairCost, seed: UInt64, shuffle: Bool,
    parts: Int? = nil
  ) {
    let sampler = GlobalBatchSampler(
      measures: pairs.map { PairMeasure($0, cost: cost) }, shape: shape, seed: seed, shuffle: shuffle, parts: parts)
    // The last step of an epoch may be short; it counts when the epoch is looked at as a whole.
    let count = sampler.stepsPerEpoch <= Self.limit ? sampler.stepsPerEpoch : Self.limit
    let plans = (0..<count).map { sampler.plan(step: $0) }
    passes = plans.map { plan in
      (0..<shape.worldSize).map { rank in
        plan.microBatches(rank: rank, rowsPerMicroBatch: rowsPerMicroBatch).map { members in
          PassSize(members.lazy.map { pairs[$0] })
        }
      }
    }
    let used = plans.flatMap(\.pairs).map { pairs[$0] }
    pairsPerStep = Double(used.count) / Double(count)
    rowsPerStep = Double(used.reduce(0) { $0 + $1.rowCount }) / Double(count)
    tokensPerStep = Double(used.reduce(0) { $0 + $1.chosen.count + $1.rejected.count }) / Double(count)
  }

  package var meanRowsPerPass: Double {
    let all = passes.joined().joined()
    return all.isEmpty ? 0 : Double(all.reduce(0) { $0 + $1.rows }) / Double(all.count)
  }

  /// Sizes that passes have: a third of a typical one, a typical one, and, where there are longer ones than all is kept
  /// of, a typical one of those.
  package func typicalRows(kept: Int) -> [Int] {
    let rows = passes.joined().joined().map(\.rows)
    func mean(_ rows: [Int]) -> Int? { rows.isEmpty ? nil : rows.reduce(0, +) / rows.count }
    let short = mean(rows.filter { $0 <= kept })
    return [short.map { max($0 / 3, 1) }, short, mean(rows.filter { $0 > kept })].compactMap(\.self)
  }

  package var passesPerRank: Double {
    let ranks = passes.joined()
    return Double(ranks.reduce(0) { $0 + $1.count }) / Double(max(ranks.count, 1))
  }

  /// Seconds of passes in a step, and of the layers' backward of its last ones.
  package struct Compute: Sendable, Equatable {
    /// Of the busiest rank: the others wait for it.
    package var busiest: Double
    package var mean: Double
    /// Backward of a rank's last pass, mean: how long gradients can travel unseen.
    package var lastBackward: Double
  }

  package func compute(_ cost: PassCost) -> Compute {
    var total = Compute(busiest: 0, mean: 0, lastBackward: 0)
    for step in passes {
      let ranks = step.map { $0.reduce(0) { $0 + cost.seconds(rows: $1.rows, attendedRows: $1.attendedRows) } }
      let last = step.map { passes in
        passes.last.map { cost.backwardSeconds(rows: $0.rows, attendedRows: $0.attendedRows) } ?? 0
      }
      total.busiest += ranks.max() ?? 0
      total.mean += ranks.reduce(0, +) / Double(ranks.count)
      total.lastBackward += last.reduce(0, +) / Double(last.count)
    }
    let count = Double(max(passes.count, 1))
    return Compute(busiest: total.busiest / count, mean: total.mean / count, lastBackward: total.lastBackward / count)
  }
}
