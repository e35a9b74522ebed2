import Timeline

/// Times of short pieces of work.
enum Stopwatch {
  /// Seconds of one call of `body`.
  static func seconds(_ body: () throws -> Void) rethrows -> Double {
    let began = Timeline.now()
    try body()
    return Double(max(Timeline.now() - began, 1)) * 1e-9
  }

  /// Seconds of one call: the median of `rounds` rounds of as many calls as fill `seconds`. The first call, which
  /// warms up, does not count.
  static func median(rounds: Int = 3, of seconds: Double = 0.05, _ body: () -> Void) -> Double {
    body()
    let calls = max(1, Int((seconds / Self.seconds(body)).rounded()))
    let times = (0..<rounds).map { _ in
      Self.seconds { for _ in 0..<calls { body() } } / Double(calls)
    }
    return times.sorted()[rounds / 2]
  }
}
