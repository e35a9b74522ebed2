package import Collectives

/// The ranks as nodes and places, and the ways between them: within a node through shared memory, between nodes by
/// messages among the ranks at the same place.
///
/// A bucket's way: on every node the rank at place p sums part p of the bucket over the node's ranks; then the ranks at
/// place p exchange the slices of that part between nodes. So as many ranks as a node has use its network at a time, and
/// what is sent are sums already. The way back, `allGather`, is the same in reverse.
///
/// Without a shared window (no room in /dev/shm) the ranks of a node exchange messages instead, and where nodes have
/// different numbers of ranks all ranks do so with all. On one node the three give the same bits.
///
/// One mesh serves one user at a time. Its groups and window last as long as the communicator.
package final class RankMesh: @unchecked Sendable {
  package let communicator: Communicator
  package let grid: RankGrid
  package let wireDType: WireDType
  /// What ranks of one node exchange through, in a few words; the same on all ranks.
  package let description: String
  /// Why some node does without shared memory though it could have it; `nil` where none does. The same on all ranks.
  package let warning: String?

  /// The most partial sums of a rank, where sums do not depend on the ranks.
  package let partialSums: Int?
  private let place: Int
  private let withinNode: (any SliceExchange)?
  private let betweenNodes: MessageExchange?

  /// A collective call.
  ///
  /// - Parameters:
  ///   - ranksPerNode: more than that on a node count as several nodes; for tests of several nodes on one.
  ///   - partialSums: the most partial sums (`PartSpan`) any rank brings into a sum whose bits do not depend on the ranks;
  ///     then sums are formed over all ranks at once, for what a node adds up first depends on who is on it.
  ///   - windowBytes: size of a rank's segment of shared memory; 0 does without. Pieces of it should stay in the
  ///     second-level cache between being written and being read, yet be few.
  ///   - leastWindowBytes: a segment may shrink to this where memory is short.
  package init(
    _ communicator: Communicator, wireDType: WireDType = .fp32, ranksPerNode: Int? = nil, partialSums: Int? = nil,
    windowBytes: Int = 1 << 20, leastWindowBytes: Int = 128 << 10
  ) throws(MPIError) {
    self.communicator = communicator
    self.wireDType = wireDType
    let grid = RankGrid(
      nodes: try communicator.allGather(communicator.nodeLeader), ranksPerNode: ranksPerNode,
      joined: partialSums != nil)
    self.grid = grid
    self.partialSums = partialSums
    let row: Int
    (row, place) = grid.places[communicator.rank]
    var problem = ""
    if grid.ranksPerRow > 1 {
      let group = try communicator.group(row)
      var window: SharedWindow?
      if !grid.isJoined, windowBytes > 0 {
        let needed = WindowExchange.leastBytes(
          members: group.size, spans: partialSums ?? 1)
        let least = max(min(leastWindowBytes, windowBytes), needed)
        switch try group.sharedWindow(bytes: max(windowBytes, needed), leastBytes: least) {
        case .success(let made): window = made
        case .failure(let reason): problem = reason.description
        }
      }
      withinNode =
        window.map { WindowExchange($0, of: group) } ?? Self.messages(group, grid.ranks[row], grid, wireDType)
    } else {
      withinNode = nil
    }
    betweenNodes =
      grid.rowCount > 1
      ? Self.messages(try communicator.group(place), grid.ranks.map { $0[0] }, grid, wireDType) : nil
    let problems = try communicator.allGather(problem)
    let hosts = try communicator.allGather(communicator.hostName)
    warning = problems.firstIndex { !$0.isEmpty }.map {
      "ranks on \(hosts[$0]) exchange messages, not shared memory: \(problems[$0])"
    }
    let places = "\(grid.nodeCount) node\(grid.nodeCount == 1 ? "" : "s")"
    if grid.isJoined {
      description =
        "messages between all ranks, "
        + (partialSums == nil ? "since nodes have different numbers of them" : "for sums that do not depend on nodes")
    } else if grid.ranksPerRow == 1 {
      description = grid.rowCount == 1 ? "one rank" : "messages between \(places)"
    } else {
      description =
        (withinNode is WindowExchange ? "shared memory" : "messages")
        + " within \(grid.nodeCount == 1 ? "the node" : "a node")"
        + (grid.rowCount == 1 ? "" : ", messages between \(places)")
    }
  }

  /// Bytes this rank has sent to other nodes, or to all others where there is no shared memory.
  package var sentBytes: Int { (betweenNodes?.sentBytes ?? 0) + ((withinNode as? MessageExchange)?.sentBytes ?? 0) }

  /// Leaves in this rank's slice of a bucket the sum over all ranks: node by node in the order of places, then over
  /// nodes; the same bits in every run. The rest of the bucket is scratch afterwards.
  func reduceScatter(_ arena: UnsafeMutablePointer<Float>, _ plan: ShardPlan, bucket: Int) throws(MPIError) {
    try withinNode?.reduceScatter(.one(of: grid.ranksPerRow, arena), parts(plan, bucket), into: arena)
    try betweenNodes?.reduceScatter(
      .one(of: grid.rowCount, arena), slicesAtMyPlace(plan, bucket), into: arena)
  }

  /// The same of what each rank has of a step's parts: the bits do not depend on ranks and nodes.
  func reduceScatter(
    _ sums: PartialSums, _ plan: ShardPlan, bucket: Int, into arena: UnsafeMutablePointer<Float>
  ) throws(MPIError) {
    precondition(grid.rowCount == 1)
    if let withinNode { return try withinNode.reduceScatter(sums, parts(plan, bucket), into: arena) }
    let range = plan.bucket(bucket)
    let terms = zip(sums.spans[0], sums.arenas).map { span, values in
      (span, SliceSum.Term.fp32(values + range.lowerBound))
    }
    SliceSum.add(terms, count: range.count, into: arena + range.lowerBound)
  }

  /// Gives every rank all slices of a bucket.
  func allGather(_ arena: UnsafeMutablePointer<Float>, _ plan: ShardPlan, bucket: Int) throws(MPIError) {
    try betweenNodes?.allGather(arena, slicesAtMyPlace(plan, bucket))
    try withinNode?.allGather(arena, parts(plan, bucket))
  }

  private func parts(_ plan: ShardPlan, _ bucket: Int) -> [Range<Int>] {
    (0..<grid.ranksPerRow).map { plan.part(bucket, at: $0) }
  }

  private func slicesAtMyPlace(_ plan: ShardPlan, _ bucket: Int) -> [Range<Int>] {
    grid.ranks.map { plan.slice(bucket, of: $0[place]) }
  }

  /// - Parameter members: world ranks of the group's members, or of ranks on the same nodes.
  private static func messages(
    _ group: RankGroup, _ members: [Int], _ grid: RankGrid, _ wireDType: WireDType
  ) -> MessageExchange {
    let home = grid.nodes[members[group.rank]]
    return MessageExchange(group, formats: members.map { grid.nodes[$0] == home ? .fp32 : wireDType })
  }
}
