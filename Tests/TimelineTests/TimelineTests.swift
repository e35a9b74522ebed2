import Dispatch
import Testing
import Timeline

@Suite struct TimelineTests {
  @Test func spansNestAndKeepWhatTheyCover() throws {
    let timeline: Timeline? = Timeline(capacity: 10)
    let value = timeline.span("step", 7) { () -> Int in
      timeline.span("layer", 0) {}
      timeline.span("layer", 1, thread: 3) {}
      return 42
    }
    #expect(value == 42)
    let spans = RankSpans(try #require(timeline)).spans
    #expect(spans.map(\.name) == ["layer", "layer", "step"])
    #expect(spans.map(\.index) == [0, 1, 7])
    #expect(spans.map(\.thread) == [0, 3, 0])
    #expect(spans.allSatisfy { $0.begin <= $0.end && $0.begin >= spans[2].begin && $0.end <= spans[2].end })
    #expect(spans[0].end <= spans[1].begin)
  }

  @Test func withoutATimelineTheBodyStillRuns() {
    let timeline: Timeline? = nil
    #expect(timeline.span("step") { 5 } == 5)
  }

  @Test func aThrownErrorPassesAndIsRecorded() throws {
    struct Failure: Error {}
    let timeline: Timeline? = Timeline(capacity: 4)
    #expect(throws: Failure.self) { try timeline.span("step") { throw Failure() } }
    #expect(try #require(timeline).recorded.count == 1)
  }

  @Test func whatFindsNoRoomIsCounted() {
    let timeline = Timeline(capacity: 2)
    for index in 0..<5 { timeline.record("x", index, thread: 0, begin: 0, end: 1) }
    #expect(RankSpans(timeline).spans.map(\.index) == [0, 1])
    #expect(RankSpans(timeline).droppedCount == 3)
    timeline.removeAll()
    #expect(timeline.recorded.isEmpty && timeline.droppedCount == 0)
  }

  @Test func threadsRecordTogether() {
    let timeline = Timeline(capacity: 4000)
    DispatchQueue.concurrentPerform(iterations: 4) { thread in
      for index in 0..<1000 { Optional(timeline).span("work", index, thread: thread) {} }
    }
    let spans = RankSpans(timeline).spans
    #expect(spans.count == 4000)
    for thread in 0..<4 {
      #expect(spans.filter { $0.thread == thread }.map(\.index) == Array(0..<1000))
    }
  }

  @Test func theClockOffsetMovesARankIntoRankZerosTime() {
    let timeline = Timeline(capacity: 1)
    timeline.record("x", 0, thread: 0, begin: 1000, end: 1500)
    let span = RankSpans(timeline, clockOffset: 300).spans[0]
    #expect(span.begin == 700 && span.end == 1200)
  }
}

@Suite struct RankSpansTests {
  private typealias Span = RankSpans.Span

  /// step 0-100 holds forward 10-40 (which holds a layer 15-25) and backward 40-90; another thread works 20-80 meanwhile.
  private let spans = RankSpans(
    spans: [
      Span(name: "layer", index: 0, begin: 15, end: 25), Span(name: "forward", begin: 10, end: 40),
      Span(name: "backward", begin: 40, end: 90), Span(name: "transfer", index: 2, thread: 1, begin: 20, end: 80),
      Span(name: "step", begin: 0, end: 100),
    ], droppedCount: 9)

  @Test func ownTimesLeaveOutWhatIsInside() {
    #expect(spans.ownTimes == [10, 20, 50, 60, 20])
  }

  @Test func ownTimesOfAThreadAddUpToItsOutermostSpans() {
    let own = zip(spans.spans, spans.ownTimes).filter { $0.0.thread == 0 }.reduce(0) { $0 + $1.1 }
    #expect(own == 100)
  }

  /// A span that fills its parent leaves nothing to it, whichever way the clock's ticks fall.
  @Test func equalSpansAreTakenInTheOrderTheyEnded() {
    let same = RankSpans(spans: [Span(name: "inner", begin: 5, end: 9), Span(name: "outer", begin: 5, end: 9)])
    #expect(same.ownTimes == [4, 0])
  }

  @Test func bytesReadBackEqual() {
    #expect(RankSpans(bytes: spans.bytes) == spans)
    #expect(RankSpans(bytes: RankSpans(spans: []).bytes) == RankSpans(spans: []))
    let named = RankSpans(spans: [Span(name: "größe", index: -1, begin: .min, end: .max)])
    #expect(RankSpans(bytes: named.bytes) == named)
  }
}
