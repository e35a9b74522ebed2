import Glibc
import Synchronization

/// Where a rank's time goes: named spans, kept in memory that is taken before the first of them.
///
/// What is measured holds an optional timeline and wraps its work in `timeline.span("name") { ... }`. Without a timeline
/// that is one comparison with nil; with one it is two readings of the clock and one record. Any thread may record.
package final class Timeline: @unchecked Sendable {
  /// One stretch of work.
  package struct Span {
    package var name: StaticString
    /// Which of several alike, such as a layer; -1 when there is only one.
    package var index: Int32
    /// 0 is the thread that runs the steps.
    package var thread: Int32
    /// Nanoseconds of the monotonic clock.
    package var begin: Int64
    package var end: Int64
  }

  private let spans: UnsafeMutablePointer<Span>
  private let capacity: Int
  private let next = Atomic<Int>(0)

  /// - Parameter capacity: spans it has room for; later ones are counted and dropped, so that recording never takes
  ///   memory. A span takes 48 bytes, which are touched here.
  package init(capacity: Int) {
    precondition(capacity >= 0, "a timeline cannot have \(capacity) spans")
    self.capacity = capacity
    spans = .allocate(capacity: max(capacity, 1))
    spans.initialize(repeating: Span(name: "", index: -1, thread: 0, begin: 0, end: 0), count: max(capacity, 1))
  }

  deinit { spans.deallocate() }

  /// The clock of all spans, in nanoseconds; never set back.
  package static func now() -> Int64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
  }

  /// Adds a span that has ended.
  package func record(_ name: StaticString, _ index: Int, thread: Int, begin: Int64, end: Int64) {
    let place = next.wrappingAdd(1, ordering: .relaxed).oldValue
    guard place < capacity else { return }
    spans[place] = Span(
      name: name, index: Int32(truncatingIfNeeded: index), thread: Int32(thread), begin: begin, end: end)
  }

  /// The spans so far, in the order in which they ended. Nobody may record meanwhile.
  package var recorded: UnsafeBufferPointer<Span> {
    UnsafeBufferPointer(start: spans, count: min(next.load(ordering: .acquiring), capacity))
  }

  /// Spans that found no room.
  package var droppedCount: Int { max(next.load(ordering: .acquiring) - capacity, 0) }

  /// Forgets all spans; the memory stays.
  package func removeAll() { next.store(0, ordering: .releasing) }
}

extension Optional where Wrapped == Timeline {
  /// Runs `body` and records how long it took, also when it throws.
  ///
  /// - Parameters:
  ///   - index: which of several alike, such as a layer or a bucket.
  ///   - thread: 0 for the thread that runs the steps.
  @inline(__always)
  package func span<Result>(
    _ name: StaticString, _ index: Int = -1, thread: Int = 0, _ body: () throws -> Result
  ) rethrows -> Result {
    guard let timeline = self else { return try body() }
    let begin = Timeline.now()
    defer { timeline.record(name, index, thread: thread, begin: begin, end: Timeline.now()) }
    return try body()
  }
}
