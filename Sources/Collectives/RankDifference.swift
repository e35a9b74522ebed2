/// Ranks that should hold the same text do not. Thrown on all ranks, with the same content.
package struct RankDifference: RaisedOnEveryRank, CustomStringConvertible, Equatable {
  package struct Difference: Sendable, Equatable {
    package let rank: Int
    package let host: String
    /// Number of the first line that differs, from 1, and how it reads there and on the reference rank; `nil` past
    /// the end.
    package let line: Int
    package let text: String?
    package let expected: String?
  }

  /// What was compared, such as "configuration".
  package let label: String
  package let worldSize: Int
  /// The lowest rank that holds what most ranks hold.
  package let referenceRank: Int
  package let referenceHost: String
  /// The ranks that hold something else, in rank order; never empty.
  package let differences: [Difference]

  package var description: String {
    let most = worldSize - differences.count
    let named = differences.prefix(3).map { difference in
      "rank \(difference.rank) on \(difference.host) has \(Self.quoted(difference.text)) in line \(difference.line) "
        + "where rank \(referenceRank) on \(referenceHost) has \(Self.quoted(difference.expected))"
    }
    let rest =
      differences.count > 3
      ? "; so do not ranks \(differences.dropFirst(3).map { "\($0.rank)" }.joined(separator: ", "))" : ""
    return
      "the ranks do not have the same \(label) (\(most) of \(worldSize) agree): \(named.joined(separator: "; "))\(rest)"
  }

  private static func quoted(_ line: String?) -> String {
    guard let line else { return "no more text" }
    return line.count > 160 ? "`\(line.prefix(160))...`" : "`\(line)`"
  }
}

extension Communicator {
  /// Compares `text` over all ranks, byte by byte.
  ///
  /// - Throws: `RankDifference` on all ranks when one differs; it names ranks, hosts and the first differing line.
  ///   `MPIError`.
  package func requireSame(_ label: String, _ text: String) throws {
    guard worldSize > 1 else { return }
    let bytes = Array(text.utf8)
    let digest = Self.digest(bytes)
    let digests = try allGather(Int(bitPattern: UInt(digest)))
    let reference = Self.mostCommon(digests)
    guard digests.contains(where: { $0 != digests[reference] }) else { return }

    var expected = bytes
    try broadcast(&expected, root: reference)
    // Every rank describes its own difference; lines of length zero come from the ranks that agree.
    let own = digests[rank] == digests[reference] ? [] : Self.firstDifference(bytes, expected)
    let reports = try allGather(own)
    let hosts = try allGather(hostName)
    let differences: [RankDifference.Difference] = reports.enumerated().compactMap { rank, report in
      guard !report.isEmpty else { return nil }
      let fields = report.split(separator: 0, maxSplits: 2, omittingEmptySubsequences: false).map {
        String(decoding: $0, as: UTF8.self)
      }
      guard fields.count == 3, let line = Int(fields[0]) else { return nil }
      func decoded(_ field: String) -> String? { field.first == "+" ? String(field.dropFirst()) : nil }
      return .init(
        rank: rank, host: hosts[rank], line: line, text: decoded(fields[1]), expected: decoded(fields[2]))
    }
    throw RankDifference(
      label: label, worldSize: worldSize, referenceRank: reference, referenceHost: hosts[reference],
      differences: differences)
  }

  /// The lowest rank among those that hold the most common value; of two equally common values, that of the lowest
  /// rank.
  static func mostCommon(_ values: [Int]) -> Int {
    var counts: [Int: Int] = [:]
    for value in values { counts[value, default: 0] += 1 }
    var best = 0
    for (rank, value) in values.enumerated() where (counts[value] ?? 0) > (counts[values[best]] ?? 0) { best = rank }
    return best
  }

  /// `line NUL own NUL expected`, where a line is preceded by `+` and one past the end is `-`.
  private static func firstDifference(_ own: [UInt8], _ expected: [UInt8]) -> [UInt8] {
    let ownLines = own.split(separator: 0x0A, omittingEmptySubsequences: false)
    let expectedLines = expected.split(separator: 0x0A, omittingEmptySubsequences: false)
    var line = 0
    while line < ownLines.count, line < expectedLines.count, ownLines[line] == expectedLines[line] { line += 1 }
    func encoded(_ lines: [ArraySlice<UInt8>]) -> [UInt8] {
      guard line < lines.count else { return [UInt8(ascii: "-")] }
      // A NUL would end the field; a line of a configuration or a digest has none.
      return [UInt8(ascii: "+")] + lines[line].prefix(1000).map { $0 == 0 ? UInt8(ascii: "?") : $0 }
    }
    return Array(String(line + 1).utf8) + [0] + encoded(ownLines) + [0] + encoded(expectedLines)
  }

  /// FNV-1a, 64 bits: enough to find texts that differ by accident.
  private static func digest(_ bytes: [UInt8]) -> UInt64 {
    bytes.reduce(0xCBF2_9CE4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }
  }
}
