/// The ranks as a grid of nodes and places within a node: rank `ranks[node][place]`.
package struct RankGrid: Sendable, Equatable {
  /// Rows of the same length.
  package let ranks: [[Int]]
  /// Whether there is a single row of all ranks though they are on several nodes: because those have different numbers of
  /// ranks, or because it was asked for.
  package let isJoined: Bool
  /// Number of each rank's node, from 0, whatever the rows.
  package let nodes: [Int]

  package var nodeCount: Int { (nodes.max() ?? 0) + 1 }
  package var rowCount: Int { ranks.count }
  package var ranksPerRow: Int { ranks[0].count }

  /// - Parameters:
  ///   - nodes: of each rank, anything that is the same for all ranks of a node and for no others.
  ///   - ranksPerNode: more than that on a node count as several nodes; for tests of several nodes on one.
  ///   - joined: one row of all ranks, whatever nodes they are on.
  package init(nodes: [Int], ranksPerNode: Int? = nil, joined: Bool = false) {
    precondition(!nodes.isEmpty && (ranksPerNode ?? 1) > 0)
    var rows: [[Int]] = []
    var numbers: [Int] = []
    // The row of a node that is being filled.
    var current: [Int: Int] = [:]
    for (rank, node) in nodes.enumerated() {
      if let row = current[node], rows[row].count < ranksPerNode ?? Int.max {
        rows[row].append(rank)
      } else {
        current[node] = rows.count
        rows.append([rank])
      }
      numbers.append(current[node] ?? 0)
    }
    self.nodes = numbers
    isJoined = rows.count > 1 && (joined || rows.contains { $0.count != rows[0].count })
    ranks = isJoined ? [Array(nodes.indices)] : rows
  }

  /// Row and place of every rank.
  package var places: [(row: Int, place: Int)] {
    var places = [(row: Int, place: Int)](repeating: (0, 0), count: rowCount * ranksPerRow)
    for (row, members) in ranks.enumerated() {
      for (place, rank) in members.enumerated() { places[rank] = (row, place) }
    }
    return places
  }
}
