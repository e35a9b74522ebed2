import Decoder
import JSON
import Packing
import Preferences
import Testing
import Timeline
import Training

private typealias Span = RankSpans.Span

/// Two ranks in one step of 1000 ns. Rank 1 comes 100 ns later to the reduction, which ends for both at 900.
private let ranks = [
  RankSpans(spans: [
    Span(name: "qkv forward", begin: 110, end: 200), Span(name: "norm forward", begin: 200, end: 230),
    Span(name: "layer forward", index: 0, begin: 100, end: 240),
    Span(name: "qkv input gradient", begin: 310, end: 390), Span(name: "qkv forward", begin: 390, end: 400),
    Span(name: "qkv weight gradient", begin: 400, end: 500),
    Span(name: "layer backward", index: 0, begin: 300, end: 510), Span(name: "backward", begin: 300, end: 510),
    Span(name: "reduce bucket", index: 0, thread: 1, begin: 500, end: 880),
    Span(name: "finish reduction", begin: 600, end: 900), Span(name: "optimizer", begin: 920, end: 970),
    Span(name: "step", index: 1, begin: 0, end: 1000),
  ]),
  RankSpans(spans: [
    Span(name: "qkv forward", begin: 100, end: 300), Span(name: "layer forward", index: 0, begin: 100, end: 300),
    Span(name: "finish reduction", begin: 700, end: 900), Span(name: "optimizer", begin: 920, end: 970),
    Span(name: "step", index: 1, begin: 0, end: 1000),
  ]),
]

@Suite struct StepBreakdownTests {
  private let breakdown = StepBreakdown(ranks: ranks)

  @Test func partsAddUpToTheStep() {
    #expect(breakdown.steps == 1)
    #expect(abs(breakdown.stepSeconds - 1e-6) < 1e-15)
    let sum = breakdown.lines.reduce(0) { $0 + $1.seconds }
    #expect(abs(sum - breakdown.stepSeconds) < 1e-15)
  }

  /// Means of both ranks, in nanoseconds. What backward computes again is backward.
  @Test(arguments: [
    (StepPart.qkv, 145.0, 95.0), (.norms, 15, 0), (.optimizer, 50, 0), (.waiting, 50, 0), (.reduction, 200, 0),
    (.attention, 0, 0),
  ])
  func timesGoToTheirParts(_ part: StepPart, forward: Double, backward: Double) {
    #expect(abs(breakdown[part].forward * 1e9 - forward) < 1e-6)
    #expect(abs(breakdown[part].backward * 1e9 - backward) < 1e-6)
  }

  @Test func otherIsWhatNoPartHas() {
    // Rank 0: 1000 - 90 - 30 - 190 - 300 - 50; rank 1: 1000 - 200 - 200 - 50.
    #expect(abs(breakdown[.other].seconds * 1e9 - (340.0 + 550) / 2) < 1e-6)
  }

  @Test func whatIsOutsideAStepDoesNotCount() {
    var more = ranks
    more[0].spans.append(Span(name: "optimizer", begin: 2000, end: 9000))
    #expect(StepBreakdown(ranks: more) == breakdown)
  }

  /// The second time two ranks come to a collective is another meeting than the first.
  @Test func meetingsOfTheSameNameAreKeptApart() {
    func rank(_ first: Int64, _ second: Int64) -> RankSpans {
      RankSpans(spans: [
        Span(name: "gradient norm", begin: first, end: 50), Span(name: "step", index: 1, begin: 0, end: 100),
        Span(name: "gradient norm", begin: second, end: 150), Span(name: "step", index: 2, begin: 100, end: 200),
      ])
    }
    let breakdown = StepBreakdown(ranks: [rank(10, 130), rank(40, 110)])
    // Waiting 30 and 0 in the first step, 0 and 20 in the second; the rest of each meeting is reduction.
    #expect(abs(breakdown[.waiting].seconds * 1e9 - 50.0 / 4) < 1e-6)
    #expect(abs(breakdown[.reduction].seconds * 1e9 - (10.0 + 10 + 20 + 20) / 4) < 1e-6)
  }
}

@Suite struct ChromeTraceTests {
  private func document() throws -> JSONValue {
    try JSONValue(parsing: ChromeTrace.bytes(ranks, hosts: ["n1", "n2"]))
  }

  @Test func everyRankIsANamedProcess() throws {
    let events = try #require(try document()["traceEvents"]?.array)
    let names = events.filter { $0["name"]?.string == "process_name" }
    #expect(names.map { $0["args"]?["name"]?.string } == ["rank 0 (n1)", "rank 1 (n2)"])
    #expect(names.allSatisfy { $0["ph"]?.string == "M" })
    #expect(names.map { $0["pid"]?.integer } == [0, 1])
    let threads = events.filter { $0["name"]?.string == "thread_name" }
    #expect(threads.map { $0["args"]?["name"]?.string } == ["steps", "communication", "steps"])
  }

  @Test func spansAreCompleteEventsInMicroseconds() throws {
    let events = try #require(try document()["traceEvents"]?.array).filter { $0["ph"]?.string == "X" }
    #expect(events.count == ranks.reduce(0) { $0 + $1.spans.count })
    let first = try #require(events.first)
    #expect(first["name"]?.string == "step" && first["ts"]?.double == 0 && first["dur"]?.double == 1)
    let layer = try #require(events.first { $0["name"]?.string == "layer backward" })
    #expect(layer["ts"]?.double == 0.3 && layer["dur"]?.double == 0.21 && layer["args"]?["layer"]?.integer == 0)
    let bucket = try #require(events.first { $0["name"]?.string == "reduce bucket" })
    #expect(bucket["tid"]?.integer == 1 && bucket["pid"]?.integer == 0 && bucket["args"]?["bucket"]?.integer == 0)
    for event in events {
      #expect(event["pid"]?.integer != nil && event["tid"]?.integer != nil && event["cat"]?.string != nil)
    }
  }

  /// On every thread an event lies inside the one around it or after it: viewers stack them by that.
  @Test func eventsNest() throws {
    let events = try #require(try document()["traceEvents"]?.array).filter { $0["ph"]?.string == "X" }
    for (pid, tid) in [(0, 0), (0, 1), (1, 0)] {
      var open: [Double] = []
      var last = -1.0
      for event in events where event["pid"]?.integer == pid && event["tid"]?.integer == tid {
        let begin = try #require(event["ts"]?.double), end = begin + (event["dur"]?.double ?? 0)
        #expect(begin >= last)
        last = begin
        while let around = open.last, around <= begin + 1e-9 { open.removeLast() }
        #expect(open.last.map { end <= $0 + 1e-9 } ?? true)
        open.append(end)
      }
    }
  }
}

@Suite struct StepWorkTests {
  private let model = DecoderConfiguration(
    family: .llama, vocabSize: 100, hiddenSize: 8, intermediateSize: 12, numHiddenLayers: 3, numAttentionHeads: 4,
    numKeyValueHeads: 2, headDim: 2, rmsNormEps: 1e-5, rope: RotaryConfiguration(theta: 10_000),
    maxPositionEmbeddings: 64, tieWordEmbeddings: true)
  private let pair = TokenizedPair(
    chosen: [1, 2, 3, 4, 5], rejected: [1, 2, 3, 6], chosenPromptLength: 3, rejectedPromptLength: 3)

  /// Rows: prefix 3, one of chosen (its last token predicts nothing), none of rejected. Attended: 6 in the prefix, 4.
  @Test func operationsFollowFromRowsAndShapes() {
    let work = StepWork([pair], model: model)
    #expect(work.rows == 4 && work.tokens == 9)
    #expect(work.forward[.qkv] == Double(3 * 2 * 8 * 16 * 4))
    #expect(work.backward[.gateUp] == Double(2 * 3 * 2 * 8 * 24 * 4))
    #expect(work.operations(.head) == Double(3 * 2 * 8 * 100 * 4))
    #expect(work.operations(.attention) == Double(12 * 3 * 8 * 10))
    #expect(work.operations(.norms) == 0)
  }

  /// The sampler's estimate counts norm weights as well, which are no matrices.
  @Test func theSumIsThePairCost() {
    let cost = model.pairCost(parameters: model.parameterCount)(pair)
    let total = StepWork([pair], model: model).total
    #expect(total <= cost && total > 0.95 * cost)
  }
}
