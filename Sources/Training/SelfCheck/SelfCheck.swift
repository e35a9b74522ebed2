package import Collectives
import DataParallel
import Foundation

/// `orpo-dist` without arguments: what a cluster can be asked in half a minute, without a file. Ranks and their cores,
/// the speed of products and of all-reduce, then a real training of a tiny model that all ranks must agree on.
package enum SelfCheck {
  /// A collective call.
  ///
  /// - Parameter print: called on rank 0 alone, with whole lines.
  /// - Throws: `SelfCheckFailure`, `RankDifference` or `RankFailures` on all ranks when something is wrong. `MPIError`.
  package static func run(_ communicator: Communicator, print: (String) -> Void) throws {
    let began = ProcessInfo.processInfo.systemUptime
    func say(_ lines: String) { if communicator.isRoot { print(lines) } }
    let watchdog = Watchdog(communicator)
    defer { watchdog.end() }

    watchdog.enter("the first messages between ranks")
    try communicator.requireSameProgram()
    let job = try Job(communicator, threads: nil)
    defer { job.stop() }

    let placement = try Placement(job)
    let (ranks, hosts) = (counted(communicator.worldSize, "rank"), counted(placement.nodes.count, "host"))
    say("orpo-dist \(Version.text): self-check of \(ranks) on \(hosts)\n")
    say(placement.table())
    for remark in placement.remarks() { say(remark) }

    say("\nMPI         \(libraryName(communicator.libraryVersion)), thread level \(communicator.threadLevel.rawValue)")
    watchdog.enter("measuring matrix products")
    let products = try ProductSpeed(job)
    say("products    \(products.summary)")
    if let warning = products.warning(hosts: placement.hosts) { say(warning) }
    watchdog.enter("measuring all-reduce")
    let reduction = try ReductionSpeed(communicator, sizes: [1 << 20, 32 << 20]) {
      watchdog.enter("an all-reduce of \($0)")
    }
    say("all-reduce  \(reduction.summary(nodes: placement.nodes.count))")

    watchdog.enter("setting the training up")
    let training = try PracticeTraining(job)
    say("training    \(training.summary)")
    let result = try training.run { step, outcome in
      watchdog.enter("training step \(step + 1)")
      if step == 0 || step % 10 == 9 { say(PracticeTraining.line(step, outcome)) }
    }
    watchdog.enter("comparing parameters")
    try communicator.requireSameParameters(training.parameters, "parameters after \(result.steps) steps of training")
    say(
      "            margin \(signed(result.first.margin)) -> \(signed(result.last.margin)), "
        + "\(number(result.pairsPerSecond)) pairs/s; parameters are the same on every rank\n")
    let seconds = ProcessInfo.processInfo.systemUptime - began
    say(
      "ok: \(ranks) on \(hosts) \(communicator.worldSize == 1 ? "agrees" : "agree"); "
        + "loss \(decimal(result.first.loss)) -> \(decimal(result.last.loss)) in \(result.steps) steps, "
        + "\(number(result.pairsPerSecond)) pairs/s, \(String(format: "%.0f", seconds)) s in all")
  }

  /// `Open MPI v4.1.4` of a first line that goes on with who built it and when.
  static func libraryName(_ version: String) -> String {
    version.split(separator: ",").first.map { String($0.prefix(70)) } ?? version
  }

  static func counted(_ count: Int, _ noun: String) -> String { "\(count) \(noun)\(count == 1 ? "" : "s")" }
  static func decimal(_ value: Double) -> String { String(format: "%.2f", value) }
  static func signed(_ value: Double) -> String { String(format: "%+.2f", value) }
  /// Three digits or so.
  static func number(_ value: Double) -> String {
    String(format: value >= 100 ? "%.0f" : value >= 10 ? "%.1f" : "%.2f", value)
  }
}

/// What the self-check found wrong. Found on values all ranks share, so all of them throw it.
package struct SelfCheckFailure: RaisedOnEveryRank, CustomStringConvertible {
  package var description: String
  init(_ cause: String) { description = "the self-check failed: \(cause)" }
}
