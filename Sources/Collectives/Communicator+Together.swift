/// What went wrong on some ranks, known to all of them.
package struct RankFailures: RaisedOnEveryRank, CustomStringConvertible, Equatable {
  package struct Failure: Sendable, Equatable {
    package let rank: Int
    package let host: String
    package let message: String
  }

  package let worldSize: Int
  /// In rank order; never empty.
  package let failures: [Failure]

  /// The message alone when all ranks say the same; otherwise each message with the ranks that say it.
  package var description: String {
    var groups: [(message: String, ranks: [Failure])] = []
    for failure in failures {
      if let index = groups.firstIndex(where: { $0.message == failure.message }) {
        groups[index].ranks.append(failure)
      } else {
        groups.append((failure.message, [failure]))
      }
    }
    if groups.count == 1, failures.count == worldSize { return groups[0].message }
    return groups.map { group in
      let named = group.ranks.prefix(4).map { "rank \($0.rank) of \(worldSize) on \($0.host)" }.joined(separator: ", ")
      return "\(named)\(group.ranks.count > 4 ? " and \(group.ranks.count - 4) more" : ""): \(group.message)"
    }.joined(separator: "\n")
  }
}

extension RankFailures {
  /// This rank's value when all ranks have one.
  /// - Throws: `RankFailures` on all ranks when one has an error instead; an error that all ranks share as it is.
  static func shared<Value>(
    _ result: Result<Value, any Error>, host: String, allGather: ([UInt8]) throws -> [[UInt8]]
  ) throws -> Value {
    var message: [UInt8] = []
    switch result {
    case .success: break
    case .failure(let error) where error is any RaisedOnEveryRank: throw error
    case .failure(let error):
      let text = String(describing: error)
      message = Array((text.isEmpty ? "an error without a description" : text).utf8)
    }
    let messages = try allGather(message)
    guard messages.contains(where: { !$0.isEmpty }) else { return try result.get() }
    let hosts = try allGather(Array(host.utf8))
    throw RankFailures(
      worldSize: messages.count,
      failures: messages.enumerated().compactMap { rank, message in
        message.isEmpty
          ? nil
          : .init(
            rank: rank, host: String(decoding: hosts[rank], as: UTF8.self),
            message: String(decoding: message, as: UTF8.self))
      })
  }
}

extension Communicator {
  /// Runs `body` on every rank and waits for all: either all return their values or all throw, so that no rank is left
  /// waiting in a collective that another will never reach. Errors that all ranks already share pass through.
  ///
  /// - Throws: `RankFailures` on all ranks when `body` threw on one. `MPIError`.
  package func together<Value>(_ body: () throws -> Value) throws -> Value {
    try RankFailures.shared(Result { try body() }, host: hostName) { try allGather($0) }
  }

  /// Runs `body` on one rank alone and hands its bytes to all; when it throws, all throw.
  package func from(_ root: Int, _ body: () throws -> [UInt8]) throws -> [UInt8] {
    var bytes = try together { rank == root ? try body() : [] }
    try broadcast(&bytes, root: root)
    return bytes
  }

  /// Runs `body` on rank 0 alone and hands its bytes to all; when it throws, all throw.
  package func fromRoot(_ body: () throws -> [UInt8]) throws -> [UInt8] { try from(0, body) }
}

extension RankGroup {
  /// As `Communicator.together`, among the members of a group that all ranks are in.
  package func together<Value>(_ body: () throws -> Value) throws -> Value {
    try RankFailures.shared(Result { try body() }, host: hostName) { try allGather($0) }
  }
}
