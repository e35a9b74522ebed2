package import JSON

/// `status.json`: where a run stands, written by rank 0 while it goes on. Whoever watches reads this file alone and
/// needs neither MPI nor the machine the run is on.
package struct RunStatus: Sendable, Equatable {
  package static let fileName = "status.json"

  package enum State: String, Sendable, CaseIterable {
    case starting, training, evaluating, saving, finished, stopped, failed

    /// Nothing more will be heard of the run.
    package var isLast: Bool { self == .finished || self == .stopped || self == .failed }
  }

  package struct Rank: Sendable, Equatable {
    package var host: String
    /// Seconds of computing in the last step, without waiting for others; nil before the first step.
    package var seconds: Double?
    /// The most memory that was resident, as of the last log; nil before it.
    package var peakMemoryGB: Double?

    package init(host: String, seconds: Double? = nil, peakMemoryGB: Double? = nil) {
      self.host = host
      self.seconds = seconds
      self.peakMemoryGB = peakMemoryGB
    }
  }

  package struct SavedCheckpoint: Sendable, Equatable {
    package var step: Int
    /// When it was complete, in seconds since 1970.
    package var time: Double

    package init(step: Int, time: Double) {
      self.step = step
      self.time = time
    }
  }

  package var state = State.starting
  /// Why a run failed or stopped.
  package var message: String?
  package var version = Version.text
  /// Of rank 0.
  package var host = ""
  package var pid = 0
  /// When that process was started, in the kernel's clock ticks: tells it from a later one with the same number.
  package var pidStart: Int?
  /// When this was written and when the process began the run, in seconds since 1970.
  package var time = 0.0
  package var began = 0.0
  /// Steps done when this process began; more than 0 after a resume.
  package var firstStep = 0
  package var step = 0
  package var totalSteps = 0
  package var epoch = 0.0
  /// Of the last step; NaN when it was skipped.
  package var loss: Double?
  package var gradientNorm: Double?
  /// From one step's end to the next, a moving average over about ten steps.
  package var stepSeconds: Double?
  package var pairsPerSecond: Double?
  package var secondsLeft: Double?
  package var skippedSteps = 0
  package var checkpoint: SavedCheckpoint?
  /// The last log entry and the last evaluation.
  package var log: LogEntry?
  package var evaluation: LogEntry?
  package var ranks: [Rank] = []

  package init() {}

  /// The rank whose own part of the last step took longest, and the median of all; nil with less than two.
  package var slowest: (rank: Int, seconds: Double, median: Double)? {
    let known = ranks.enumerated().compactMap { rank, figures in figures.seconds.map { (rank, $0) } }
      .filter { $0.1.isFinite && $0.1 >= 0 }
    guard known.count > 1, let last = known.max(by: { $0.1 < $1.1 }) else { return nil }
    let sorted = known.map(\.1).sorted()
    let middle = sorted.count / 2
    let median = sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
    return (last.0, last.1, median)
  }
}

extension RunStatus {
  package var json: JSONValue {
    func number(_ value: Double?) -> JSONValue { value.map { .double($0) } ?? .null }
    var slow = JSONValue.null
    if let slowest {
      slow = [
        "rank": .integer(slowest.rank), "host": .string(ranks[slowest.rank].host),
        "seconds": .double(slowest.seconds), "median_seconds": .double(slowest.median),
      ]
    }
    return [
      "format": 1, "state": .string(state.rawValue), "message": message.map { .string($0) } ?? .null,
      "version": .string(version), "host": .string(host), "pid": .integer(pid),
      "pid_start": pidStart.map { .integer($0) } ?? .null, "time": .double(time), "began": .double(began),
      "first_step": .integer(firstStep), "step": .integer(step), "total_steps": .integer(totalSteps),
      "epoch": .double(epoch), "loss": number(loss), "grad_norm": number(gradientNorm),
      "step_seconds": number(stepSeconds), "pairs_per_second": number(pairsPerSecond),
      "seconds_left": number(secondsLeft), "skipped_steps": .integer(skippedSteps),
      "last_checkpoint": checkpoint.map { ["step": .integer($0.step), "time": .double($0.time)] } ?? .null,
      "last_log": log?.json ?? .null, "last_evaluation": evaluation?.json ?? .null, "slowest_rank": slow,
      "ranks": .array(
        ranks.enumerated().map { rank, figures in
          [
            "rank": .integer(rank), "host": .string(figures.host), "seconds": number(figures.seconds),
            "peak_memory_gb": number(figures.peakMemoryGB),
          ]
        }),
    ]
  }

  /// Reads back `json`. Members that are missing or of another type count as unknown; without a known state and a time
  /// there is no status.
  package init?(json: JSONValue) {
    guard let state = json["state"]?.string.flatMap(State.init), let time = json["time"]?.double, time.isFinite else {
      return nil
    }
    func count(_ key: String) -> Int { max(json[key]?.integer ?? 0, 0) }
    func number(_ key: String) -> Double? { json[key]?.double.flatMap { $0.isFinite ? $0 : nil } }
    self.state = state
    self.time = time
    message = json["message"]?.string
    version = json["version"]?.string ?? "unknown"
    host = json["host"]?.string ?? ""
    pid = count("pid")
    pidStart = json["pid_start"]?.integer
    began = number("began") ?? time
    (firstStep, step, totalSteps) = (count("first_step"), count("step"), count("total_steps"))
    (epoch, skippedSteps) = (number("epoch") ?? 0, count("skipped_steps"))
    // Written as null when it was not finite.
    loss = number("loss") ?? (step > firstStep ? .nan : nil)
    gradientNorm = number("grad_norm") ?? (step > firstStep ? .nan : nil)
    (stepSeconds, pairsPerSecond) = (number("step_seconds"), number("pairs_per_second"))
    secondsLeft = number("seconds_left")
    if let saved = json["last_checkpoint"], let step = saved["step"]?.integer, let time = saved["time"]?.double {
      checkpoint = SavedCheckpoint(step: step, time: time)
    }
    log = json["last_log"].flatMap { LogEntry(json: $0) }
    evaluation = json["last_evaluation"].flatMap { LogEntry(json: $0) }
    ranks = (json["ranks"]?.array ?? []).map {
      Rank(
        host: $0["host"]?.string ?? "", seconds: $0["seconds"]?.double, peakMemoryGB: $0["peak_memory_gb"]?.double)
    }
  }
}
