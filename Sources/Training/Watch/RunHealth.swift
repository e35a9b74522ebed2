import Foundation

/// A judgement of a run from its folder: whether it lives, and what somebody who watches should know.
package struct RunHealth: Sendable, Equatable {
  package enum Level: String, Sendable, Comparable {
    case ok, note, warning, alarm

    package static func < (a: Level, b: Level) -> Bool { a.order < b.order }
    private var order: Int {
      switch self {
      case .ok: 0
      case .note: 1
      case .warning: 2
      case .alarm: 3
      }
    }
  }

  package struct Remark: Sendable, Equatable {
    package var level: Level
    package var text: String
  }

  /// The first says whether the run lives.
  package private(set) var remarks: [Remark] = []
  /// Whether the process that wrote the status was found; nil when it is on another machine.
  package private(set) var processFound: Bool?
  /// The worst of the remarks.
  package var level: Level { remarks.map(\.level).max() ?? .ok }

  /// - Parameters:
  ///   - host: the name of the machine that looks; only its own processes can be looked up.
  ///   - process: how a process of this machine is found.
  package init(
    _ folder: RunFolder, host: String = ProcessInfo.processInfo.hostName,
    process: (_ pid: Int, _ start: Int?) -> ProcessLook.State = { ProcessLook.state(of: $0, start: $1) }
  ) {
    judgeLife(folder, host: host, process: process)
    judgeSteps(folder)
    judgeJournal(folder)
    judgeCheckpoints(folder)
    for problem in folder.problems { add(.warning, problem) }
  }

  private mutating func add(_ level: Level, _ text: String) { remarks.append(Remark(level: level, text: text)) }

  private mutating func judgeLife(
    _ folder: RunFolder, host: String, process: (Int, Int?) -> ProcessLook.State
  ) {
    guard let status = folder.status else {
      return add(
        .warning, "there is no usable \(RunStatus.fileName): no run has begun here, or it was of an older version")
    }
    let age = folder.time - status.time
    let ago = "\(Age.text(max(age, 0))) ago"
    switch status.state {
    case .finished: return add(.ok, "finished \(ago)")
    case .stopped:
      return add(.note, "stopped \(ago): \(status.message ?? "by a signal"); start it again to go on")
    case .failed: return add(.alarm, "failed \(ago): \(status.message ?? "no reason was written down")")
    case .starting, .training, .evaluating, .saving: break
    }
    let look = Self.isSameHost(host, status.host) ? process(status.pid, status.pidStart) : nil
    processFound = look.map { $0 != .gone }
    let doing = "\(status.state.rawValue), step \(status.step)"
    switch look {
    case .gone:
      return add(
        .alarm, "died: process \(status.pid) is gone, last heard of \(ago) (\(doing)), and it said nothing of an end")
    case .halted:
      return add(.alarm, "halted: process \(status.pid) is stopped by a signal (SIGSTOP), last heard of \(ago)")
    case .running, nil: break
    }
    if age < -60 {
      add(.note, "the clock of \(status.host) is \(Age.text(-age)) ahead of this machine's: ages are not to be trusted")
    }
    let patience = Self.patience(status)
    guard age > patience else {
      return add(.ok, "alive: heard of \(ago)" + (age < 0 ? " or later" : ""))
    }
    let question =
      look == nil
      ? "has it died, or do the clocks differ? process \(status.pid) is on \(status.host)"
      : "has it died? its process is still there"
    let usual = status.stepSeconds.map { ", a step takes \(Figure.seconds($0))" } ?? ""
    add(
      .alarm, "not heard of for \(Age.text(age)) (\(doing)\(usual)): \(question)")
  }

  /// Seconds after which silence is a bad sign.
  static func patience(_ status: RunStatus) -> Double {
    let step = max(status.stepSeconds ?? 0, 0)
    switch status.state {
    case .training: return max(20, 5 * step)
    // How long these take is not known beforehand.
    case .evaluating: return max(600, 5 * step, 5 * (status.evaluation?["eval_runtime"] ?? 0))
    case .starting, .saving, .finished, .stopped, .failed: return max(600, 5 * step)
    }
  }

  private mutating func judgeSteps(_ folder: RunFolder) {
    guard let status = folder.status else { return }
    if let loss = status.loss, !loss.isFinite { add(.warning, "the loss of step \(status.step) is not finite") }
    if status.skippedSteps > 0 {
      let steps = status.skippedSteps == 1 ? "1 step was" : "\(status.skippedSteps) steps were"
      let last = folder.journal.last("step_skipped").map { ", last at step \($0.step)" } ?? ""
      add(.warning, "\(steps) skipped because loss or gradient was not finite or far beyond earlier ones\(last)")
    }
    if let slowest = status.slowest, slowest.seconds > 1.3 * slowest.median, slowest.seconds > 0.01 {
      let share = slowest.median > 0 ? " (\(Figure.text(slowest.seconds / slowest.median)) times the median)" : ""
      add(
        .note,
        "rank \(slowest.rank) on \(status.ranks[slowest.rank].host) is slow: \(Figure.seconds(slowest.seconds))\(share), and all wait for it"
      )
    }
  }

  private mutating func judgeJournal(_ folder: RunFolder) {
    let journal = folder.journal
    func times(_ count: Int) -> String { count == 1 ? "once" : "\(count) times" }
    if let count = journal.counts["resumed"], let last = journal.last("resumed") {
      add(.note, "resumed \(times(count)), last at step \(last.step), \(Age.text(folder.time - last.time)) ago")
    }
    let kinds: [(name: String, text: String, level: Level)] = [
      ("step_retried", "a step was computed again", .warning),
      ("ranks_differ", "ranks held different parameters", .alarm),
      ("checkpoint_failed", "a checkpoint could not be saved", .warning),
      ("checkpoint_damaged", "a checkpoint was found damaged", .warning),
      ("signal", "a signal asked the run to stop", .note),
      ("taken_over", "an earlier start found that a later one has the folder", .warning),
    ]
    for kind in kinds {
      guard let count = journal.counts[kind.name], let last = journal.last(kind.name) else { continue }
      let detail = last.detailText.isEmpty ? "" : ": \(last.detailText)"
      add(
        kind.level,
        "\(kind.text) \(times(count)), last at step \(last.step), \(Age.text(folder.time - last.time)) ago\(detail)")
    }
  }

  private mutating func judgeCheckpoints(_ folder: RunFolder) {
    for checkpoint in folder.checkpoints {
      if let defect = checkpoint.defect { add(.warning, "\(checkpoint.name) cannot be used: \(defect)") }
    }
    guard let status = folder.status, !status.state.isLast,
      let newest = folder.checkpoints.first(where: { $0.defect == nil }), newest.bytes > 0
    else { return }
    var system = statvfs()
    guard statvfs(folder.path, &system) == 0 else { return }
    let free = Double(system.f_bavail) * Double(system.f_frsize)
    if free < Double(newest.bytes) {
      add(
        .warning,
        "\(Figure.bytes(free)) are free where the run writes: less than the next checkpoint takes (\(Figure.bytes(Double(newest.bytes))))"
      )
    }
  }

  /// Host names with and without their domain are the same.
  private static func isSameHost(_ a: String, _ b: String) -> Bool {
    !a.isEmpty && a.split(separator: ".").first == b.split(separator: ".").first
  }
}

/// How long ago, in words.
enum Age {
  static func text(_ seconds: Double) -> String {
    guard seconds.isFinite else { return "an unknown time" }
    let seconds = max(seconds, 0)
    if seconds < 120 { return "\(Int(seconds.rounded())) s" }
    if seconds < 7200 { return "\(Int(seconds / 60)) min" }
    if seconds < 172_800 { return "\(Int(seconds / 3600)) h" }
    return seconds < 1e12 ? "\(Int(seconds / 86400)) days" : "ages"
  }
}

/// Numbers as a person reads them.
enum Figure {
  static func text(_ value: Double) -> String { ProgressLine.number(value) }
  static func seconds(_ value: Double) -> String {
    value < 1 ? "\(ProgressLine.number(value * 1000)) ms" : "\(ProgressLine.number(value)) s"
  }
  static func bytes(_ value: Double) -> String {
    if value < 1e6 { return "\(ProgressLine.number(value / 1e3)) kB" }
    return value < 1e9 ? "\(ProgressLine.number(value / 1e6)) MB" : "\(ProgressLine.number(value / 1e9)) GB"
  }
  /// UTC, to the second.
  static func date(_ time: Double) -> String {
    guard time.isFinite, abs(time) < 2e11 else { return "?" }
    var seconds = time_t(time)
    var parts = tm()
    gmtime_r(&seconds, &parts)
    var text = [CChar](repeating: 0, count: 64)
    let count = strftime(&text, text.count, "%Y-%m-%d %H:%M:%S UTC", &parts)
    return String(decoding: text.prefix(count).map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}
