import Collectives

let collectiveChecks: [Check] = [
  Check("place in the job") { world in
    let ranks = try world.allGather(world.rank)
    let places = try world.allGather("\(world.nodeLeader) \(world.localRank) \(world.localSize)")
    try expectEqual(ranks, Array(0..<world.worldSize), "rank by rank")
    try expect(!world.hostName.isEmpty && world.libraryVersion.contains("MPI"), "no host name or library version")
    // The ranks of a node count from 0 to localSize - 1, and the node is named by the first of them.
    var nodes: [Int: [Int]] = [:]
    for place in places {
      let numbers = place.split(separator: " ").compactMap { Int($0) }
      nodes[numbers[0], default: []].append(numbers[1])
    }
    try expectEqual(nodes[world.nodeLeader], Array(0..<world.localSize), "local ranks of this node")
  },

  Check("sums of any size, fp32") { world in
    for count in [0, 1, 2, 3, 17, 1000, 4097, 1 << 17, (1 << 20) + 1] {
      // Whole numbers below 2^24 are summed without rounding, in any order.
      var values = (0..<count).map { Float(($0 &* 31 + world.rank * 7) % 1009) }
      try values.withUnsafeMutableBufferPointer { buffer in try world.allReduce(sum: buffer) }
      for index in 0..<count {
        let expected = (0..<world.worldSize).reduce(Float(0)) { $0 + Float((index &* 31 + $1 * 7) % 1009) }
        try expectEqual(values[index], expected, "sum \(index) of \(count)")
      }
    }
  },

  Check("sums, fp64") { world in
    for count in [0, 1, 5, 70_001] {
      var values = (0..<count).map { Double($0) + Double(world.rank) * 0x1p-20 }
      try values.withUnsafeMutableBufferPointer { buffer in try world.allReduce(sum: buffer) }
      let ranks = Double(world.worldSize)
      for index in 0..<count {
        try expectEqual(values[index], ranks * Double(index) + ranks * (ranks - 1) / 2 * 0x1p-20, "sum \(index)")
      }
    }
  },

  Check("sums that round have the same bits on all ranks") { world in
    for count in [1, 3, 511, 100_003, 3_000_001] {
      var values = (0..<count).map { 1 / Float(1 + $0 % 977 + 13 * world.rank) }
      try values.withUnsafeMutableBufferPointer { buffer in try world.allReduce(sum: buffer) }
      let digest = values.reduce(UInt64(14_695_981_039_346_656_037)) {
        ($0 ^ UInt64($1.bitPattern)) &* 1_099_511_628_211
      }
      let digests = try world.allGather(Int(bitPattern: UInt(digest)))
      try expect(digests.allSatisfy { $0 == digests[0] }, "the sums of \(count) values differ: \(digests)")
    }
  },

  Check("agree") { world in
    let ranks = Double(world.worldSize)
    var sums = [0.1 * Double(world.rank + 1), Double(world.rank), -1]
    try world.agree(sum: &sums)
    try expectEqual(Array(sums[1...]), [ranks * (ranks - 1) / 2, -ranks] as [Double], "agreed sums")
    let bits = try world.allGather(Int(bitPattern: UInt(sums[0].bitPattern)))
    try expect(bits.allSatisfy { $0 == bits[0] }, "the bits of a sum differ: \(bits)")
    var largest = [Double(world.rank), -Double(world.rank), world.rank == world.worldSize - 1 ? .infinity : 0]
    try world.agree(max: &largest)
    try expectEqual(largest, [ranks - 1, 0, .infinity], "agreed maxima")
    var none: [Double] = []
    try world.agree(sum: &none)
    try expectEqual(none, [], "no values")
  },

  Check("broadcast from every root") { world in
    for root in 0..<world.worldSize {
      for count in [0, 1, 1000, (3 << 20) + 5] {
        let expected = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ root) }
        // The others hold something else, of another length.
        var bytes = world.rank == root ? expected : [UInt8](repeating: 0xEE, count: count / 2 + world.rank)
        try world.broadcast(&bytes, root: root)
        try expect(bytes == expected, "\(bytes.count) bytes from rank \(root) instead of \(count), or other bytes")

        var words = (0..<count).map { world.rank == root ? $0 &* 3 &+ root : -1 }
        try words.withUnsafeMutableBytes { buffer in try world.broadcast(buffer, root: root) }
        try expect(words == (0..<count).map { $0 &* 3 &+ root }, "the buffer from rank \(root) differs")
      }
    }
  },

  Check("gather and allGather of different lengths") { world in
    func part(_ rank: Int, _ scale: Int) -> [UInt8] {
      [UInt8](repeating: UInt8(rank + 1), count: (rank * rank + rank % 2) * scale)
    }
    for scale in [0, 1, 100_000] {
      let expected = (0..<world.worldSize).map { part($0, scale) }
      let everywhere = try world.allGather(part(world.rank, scale))
      for root in 0..<world.worldSize {
        let gathered = try world.gather(part(world.rank, scale), root: root)
        try expect(gathered == (world.rank == root ? expected : nil), "gather on rank \(root), scale \(scale)")
      }
      try expect(everywhere == expected, "allGather, scale \(scale)")
    }
    let texts = try world.allGather("rank \(world.rank) \u{1F600}")
    try expectEqual(texts, (0..<world.worldSize).map { "rank \($0) \u{1F600}" }, "texts")
  },

  Check("transfers in many pieces") { world in
    for limit in [1, 100, 4096] {
      try world.limitPieces(toBytes: limit)
      var values = (0..<301).map { Float($0 * (world.rank + 1)) }
      try values.withUnsafeMutableBufferPointer { try world.allReduce(sum: $0) }
      var agreed = (0..<70).map { Double($0 + world.rank) }
      try world.agree(max: &agreed)
      let bytes = (0..<500 + world.rank).map { UInt8(truncatingIfNeeded: $0 &* 11 &+ world.rank) }
      var sent = bytes
      try world.broadcast(&sent, root: world.worldSize - 1)
      let all = try world.allGather(bytes)
      try world.limitPieces(toBytes: 1 << 28)

      let ranks = world.worldSize
      try expect(values == (0..<301).map { Float($0 * ranks * (ranks + 1) / 2) }, "sums in pieces of \(limit) bytes")
      try expect(agreed == (0..<70).map { Double($0 + ranks - 1) }, "maxima in pieces of \(limit) bytes")
      try expect(sent == all[ranks - 1], "broadcast in pieces of \(limit) bytes")
      try expect(all[world.rank] == bytes && all.map(\.count) == (0..<ranks).map { 500 + $0 }, "gathered in pieces")
    }
  },

  Check("requireSame passes on equal texts") { world in
    try world.requireSame("configuration", "")
    try world.requireSame("configuration", String(repeating: "learning_rate: 1e-5\n", count: 5000))
  },

  Check("requireSame names the rank that differs, on all ranks") { world in
    guard world.worldSize > 1 else { return }
    for odd in 0..<world.worldSize {
      let text = "a: 1\nb: \(world.rank == odd ? 3 : 2)\nc: 4"
      let difference = try requireDifference(world, "configuration", text)
      // Of two ranks neither has the majority, and rank 0 is the reference.
      let named = world.worldSize == 2 ? 1 : odd
      try expectEqual(difference.differences.map(\.rank), [named], "ranks that differ")
      try expectEqual(difference.differences.map(\.line), [2], "line")
      let expectedText = named == odd ? "b: 3" : "b: 2"
      try expectEqual(difference.differences[0].text, expectedText, "text")
      try expect(
        difference.description.contains(
          "rank \(named) on \(difference.differences[0].host) has `\(expectedText)` in line 2"),
        "message: \(difference)")
    }
  },

  Check("requireSame with a text that ends early") { world in
    guard world.worldSize > 1 else { return }
    let last = world.worldSize - 1
    let difference = try requireDifference(world, "data digest", world.rank == last ? "one" : "one\ntwo")
    try expectEqual(difference.differences.map(\.rank), [last], "ranks that differ")
    let found = difference.differences[0]
    try expect(found.line == 2 && found.text == nil && found.expected == "two", "difference \(found)")
  },

  Check("shares of cores where ranks are bound unevenly") { _ in
    let nodes = [0, 0, 0, 3, 3, 3, 3]
    let cores = [[0, 1, 2, 3], [0], [4], [0, 1], [2, 3, 4], [2, 3, 4], [2, 3, 4]]
    let shares = nodes.indices.map { HostReport.share(of: $0, nodes: nodes, cores: cores) }
    try expectEqual(shares.map(\.count), [3, 1, 1, 2, 1, 1, 1], "numbers of cores")
    try expectEqual(shares.map(\.own), [[], [], [4], [0, 1], [], [], []], "cores of one rank alone")
  },

  Check("core bindings") { world in
    try expectEqual(HostReport.ranges([0, 1, 2, 3, 8]), "0-3,8", "list of cores")
    try expectEqual(HostReport.ranges([5]), "5", "one core")
    let report = world.hostReport
    try expect(report.coresVisible >= 1 && report.coresVisible <= report.coresOnline, "\(report)")
    try expect(!report.binding.isEmpty, "no binding")
    // On one node the shares never add up to more than the cores, but for the one core each rank gets at least.
    let cores = try world.coresOfThisRank()
    try expect(cores.own.isEmpty || cores.own.count == cores.count, "own cores \(cores)")
    try expect(HostReport.physical(cores.own) == cores.own, "two hardware threads of a core in \(cores)")
    let shares = try world.allGather(cores.count)
    if world.localSize == world.worldSize {
      try expect(shares.reduce(0, +) <= max(report.coresOnline, world.worldSize), "shares \(shares)")
    }
  },
]

/// The error `requireSame` must raise on this rank.
private func requireDifference(_ world: Communicator, _ label: String, _ text: String) throws -> RankDifference {
  var raised: RankDifference?
  do {
    try world.requireSame(label, text)
  } catch let difference as RankDifference {
    raised = difference
  }
  let raisedBy = try world.allGather(raised == nil ? 0 : 1)
  try expect(raisedBy.allSatisfy { $0 == 1 }, "not raised on every rank: \(raisedBy)")
  guard let raised else { throw Unexpected("no difference found") }
  return raised
}
