import Collectives
import ORPO
import Preferences

// What the training step and the evaluation pass have in common: coefficients of pairs, and metrics of parts.

extension StepPlan {
  func coefficients(_ members: [Int]) -> [ORPOObjective.PairCoefficients] {
    members.map { .init(nllTokenWeight: nllTokenWeight($0), oddsWeight: oddsWeight) }
  }
}

extension Communicator {
  /// Adds up the parts' metrics, in order and with the same bits on any number of ranks, since each part is one rank's and
  /// zeros change nothing; and other values over ranks.
  func agreed(
    _ parts: [ORPOMetrics], _ others: [Double]
  ) throws(MPIError) -> (metrics: ORPOMetrics, others: [Double]) {
    var values = parts.flatMap(\.values) + others
    try agree(sum: &values)
    let size = ORPOMetrics.valueCount
    var total = ORPOMetrics()
    for part in parts.indices { total += ORPOMetrics(values: values[part * size..<(part + 1) * size]) }
    return (total, Array(values[(parts.count * size)...]))
  }
}
