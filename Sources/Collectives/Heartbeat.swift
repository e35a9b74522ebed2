internal import CMPI
import Foundation
import Synchronization

/// Notices ranks that are gone without a word or do not get on, and ends the job with their name: a stopped process, a host
/// that is down and a network that is away look alike to MPI, which waits for them forever.
///
/// Every rank has a thread for this, independent of computing. It tells rank 0 where the rank is, and rank 0 tells all
/// others that it lives; nothing in it waits for another rank.
package final class Heartbeat: @unchecked Sendable {
  /// All in milliseconds.
  package struct Limits: Sendable {
    /// Between two messages, and between two looks for messages.
    package var interval = 2000
    package var pause = 200
    /// Silence of a rank after which rank 0 gives it up, and of rank 0 after which the others do: later, because when a
    /// network is away both are silent to each other and rank 0 knows whom others still hear; and first rank 1, which
    /// speaks for them.
    ///
    /// Busy processors do not delay messages for nearly as long: of 8 ranks that shared two cores with as many other
    /// processes, none was silent for 4 s.
    package var silenceOfRank = 15_000
    package var silenceOfRoot = 18_000
    package var laterThanRankOne = 2000
    /// Silence that ranks 0 and 1 warn of: sooner than a launcher gives a host up, which it may do without its name.
    package var silenceToTell = 5000
    /// A thread that slept so much longer than it wanted was itself stopped, and knows nothing of the others' silence.
    package var longestPause = 5000

    package init() {}
  }

  private let limits: Limits
  private let communicator: Communicator
  private let progress: RankProgress
  private let hosts: [String]
  private let watchdogSeconds: Int
  private let handle: OpaquePointer?
  private let isEnding = Atomic<Bool>(false)
  private let ended = DispatchSemaphore(value: 0)

  /// Of other ranks, by rank; used by the thread alone.
  private var heard: [Int]
  private var places: [RankProgress.Place]
  private var hasLeft: [Bool]
  /// When those were last heard of whose silence was warned of.
  private var missedSince: [Int: Int] = [:]

  /// Begins to watch; a collective call.
  ///
  /// - Parameter watchdogSeconds: the job ends when no rank gets on for so long; 0 for never. Starting is exempt:
  ///   reading a model or data may take any time.
  package init(
    _ communicator: Communicator, _ progress: RankProgress, watchdogSeconds: Int, limits: Limits = Limits()
  ) throws(MPIError) {
    self.limits = limits
    self.communicator = communicator
    self.progress = progress
    self.watchdogSeconds = watchdogSeconds
    hosts = try communicator.allGather(communicator.hostName)
    // All ranks must have the same, or one would wait for messages that another cannot send.
    var lacks = [communicator.threadLevel == .multiple ? 0.0 : 1]
    try communicator.agree(max: &lacks)
    var created: OpaquePointer?
    if communicator.worldSize > 1, lacks[0] == 0 {
      try communicator.calls { job, call in orpo_mpi_heartbeat_create(job, &created, call) }
    }
    handle = created
    let now = RankProgress.milliseconds()
    heard = Array(repeating: now, count: communicator.worldSize)
    places = Array(repeating: .init(), count: communicator.worldSize)
    hasLeft = Array(repeating: false, count: communicator.worldSize)
    Thread.detachNewThread { [self] in
      do { try watch() } catch { communicator.fail(error) }
      ended.signal()
    }
  }

  /// Whether ranks hear of each other; otherwise each only watches itself.
  package var connectsRanks: Bool { handle != nil }

  /// Ends watching; a collective call, before MPI is finalised.
  package func end() throws(MPIError) {
    progress.enter(.end)
    isEnding.store(true, ordering: .releasing)
    ended.wait()
    guard let handle else { return }
    try communicator.calls { _, call in orpo_mpi_heartbeat_free(handle, call) }
  }

  // MARK: - The thread

  /// Those this rank talks to.
  private var peers: Range<Int> { handle == nil ? 0..<0 : communicator.isRoot ? 1..<communicator.worldSize : 0..<1 }

  private func watch() throws(MPIError) {
    var lastRound = RankProgress.milliseconds()
    var lastSent = lastRound - limits.interval
    var saidGoodbye = Set<Int>()
    var wasLong = false
    while true {
      let now = RankProgress.milliseconds()
      let isLong = now - lastRound > limits.longestPause
      defer { wasLong = isLong }
      // One long round after the other is a machine that is too slow to watch, which excuses nobody.
      if isLong, !wasLong {
        // A scheduler that suspends jobs does so to all ranks. What they said before is as old as the pause is long.
        progress.excuse(milliseconds: now - lastRound)
        for peer in heard.indices {
          heard[peer] = now
          places[peer].seconds = 0
        }
      }
      lastRound = now
      let isEnding = isEnding.load(ordering: .acquiring)
      progress.lookAtFiles()
      let place = progress.place
      if isEnding || now - lastSent >= limits.interval {
        for peer in peers where !saidGoodbye.contains(peer) {
          if try send(place, isLast: isEnding, to: peer), isEnding { saidGoodbye.insert(peer) }
        }
        lastSent = now
      }
      try receive(at: now)
      if isEnding, saidGoodbye.count == peers.count, peers.allSatisfy({ hasLeft[$0] }) {
        var isOver = true
        for peer in peers where try !isIdle(peer) { isOver = false }
        if isOver { return }
      }
      judgeSilence(at: now)
      places[communicator.rank] = place
      judgeProgress()
      usleep(UInt32(1000 * (isEnding ? 5 : limits.pause)))
    }
  }

  private func send(_ place: RankProgress.Place, isLast: Bool, to peer: Int) throws(MPIError) -> Bool {
    let words = [Int64(place.step), Int64(place.phase.rawValue), Int64(place.seconds * 1000), isLast ? 1 : 0]
    var isSent: Int32 = 0
    try communicator.call("MPI_Isend") { [handle] _ in
      handle.map { orpo_mpi_heartbeat_send($0, Int32(peer), words, &isSent) } ?? ORPO_MPI_SUCCESS
    }
    return isSent == 1
  }

  private func isIdle(_ peer: Int) throws(MPIError) -> Bool {
    var isIdle: Int32 = 0
    try communicator.call("MPI_Test") { [handle] _ in
      handle.map { orpo_mpi_heartbeat_send($0, Int32(peer), nil, &isIdle) } ?? ORPO_MPI_SUCCESS
    }
    return isIdle == 1
  }

  private func receive(at now: Int) throws(MPIError) {
    guard let handle else { return }
    var words = [Int64](repeating: 0, count: Int(ORPO_MPI_HEARTBEAT_WORDS))
    while true {
      var peer: Int32 = -1
      try communicator.call("MPI_Iprobe") { _ in orpo_mpi_heartbeat_receive(handle, &peer, &words) }
      guard peer >= 0 else { return }
      heard[Int(peer)] = now
      if let since = missedSince.removeValue(forKey: Int(peer)) {
        warn("heard of again after \((now - since) / 1000) s: \(named([Int(peer)]))")
      }
      places[Int(peer)] = .init(
        step: Int(words[0]), phase: .init(rawValue: Int(words[1])) ?? .start, seconds: Double(words[2]) / 1000)
      if words[3] == 1 { hasLeft[Int(peer)] = true }
    }
  }

  private func judgeSilence(at now: Int) {
    let limit =
      communicator.isRoot
      ? limits.silenceOfRank : limits.silenceOfRoot + (communicator.rank == 1 ? 0 : limits.laterThanRankOne)
    let present = peers.filter { !hasLeft[$0] }
    let missed = present.filter { missedSince[$0] == nil && now - heard[$0] > limits.silenceToTell }
    if !missed.isEmpty, communicator.rank <= 1 {
      for peer in missed { missedSince[peer] = heard[peer] }
      warn("not heard of for \(limits.silenceToTell / 1000) s: \(named(missed))")
    }
    let silent = present.filter { now - heard[$0] > limit }
    guard !silent.isEmpty else { return }
    communicator.fail(RankSilence(ranks: named(silent), seconds: limit / 1000))
  }

  /// Rank 0 judges for all. A rank that waits for another one is in no fault as long as that one gets on: only when none
  /// does, they all stand still.
  private func judgeProgress() {
    guard watchdogSeconds > 0, communicator.isRoot || handle == nil else { return }
    let known = communicator.isRoot && handle != nil ? Array(places.indices) : [communicator.rank]
    let present = known.filter { !hasLeft[$0] && places[$0].phase != .end }
    let limit = Double(watchdogSeconds)
    guard !present.isEmpty, present.allSatisfy({ places[$0].phase != .start && places[$0].seconds > limit }) else {
      return
    }
    communicator.fail(RankStandstill(ranks: named(Self.behind(present, places)), seconds: watchdogSeconds))
  }

  /// Those of `ranks` that have got least far: the others may only be waiting for them.
  static func behind(_ ranks: [Int], _ places: [RankProgress.Place]) -> [Int] {
    func order(_ rank: Int) -> (Int, Int) { (places[rank].step, places[rank].phase.rawValue) }
    guard let least = ranks.min(by: { order($0) < order($1) }) else { return [] }
    return ranks.filter { order($0) == order(least) }
  }

  private func warn(_ text: String) { communicator.say("warning: \(text)") }

  private func named(_ ranks: [Int]) -> String {
    let texts = ranks.prefix(4).map {
      "rank \($0) of \(communicator.worldSize) on \(hosts[$0]) (last: \(places[$0].description))"
    }
    return texts.joined(separator: ", ") + (ranks.count > 4 ? " and \(ranks.count - 4) more" : "")
  }
}

private struct RankSilence: Error, CustomStringConvertible {
  var ranks: String
  var seconds: Int

  var description: String {
    "not heard of for \(seconds) s: \(ranks); the process is stopped, its host is down or the network to it is gone"
  }
}

private struct RankStandstill: Error, CustomStringConvertible {
  var ranks: String
  var seconds: Int

  var description: String {
    "no progress for \(seconds) s (watchdog_seconds): \(ranks); look at that process, its disks and its network"
  }
}
