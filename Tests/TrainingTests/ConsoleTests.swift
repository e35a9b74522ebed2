import Testing
import Training

@Suite struct ConsoleTests {
  private let line = ProgressLine(
    step: 120, totalSteps: 400, loss: 1.23456, margin: 0.01234, tokensPerSecond: 2345.6, secondsLeft: 754)

  @Test(arguments: [
    (120, "[============                            ] 120/400  loss 1.235  margin 0.01234  2346 tokens/s  12:34 left"),
    (75, "[===       ] 120/400  loss 1.235  margin 0.01234  2346 tokens/s  12:34 left"),
    (72, "120/400  loss 1.235  margin 0.01234  2346 tokens/s  12:34 left"),
    (61, "120/400  loss 1.235  2346 tokens/s  12:34 left"), (40, "120/400  loss 1.235  12:34 left"),
    (20, "120/400  loss 1.235"), (10, "120/400"), (3, "120"), (0, ""),
  ])
  func theLineFitsTheWidth(_ width: Int, text: String) {
    #expect(line.rendered(width: width) == text)
  }

  @Test(arguments: 0...130)
  func noWidthIsExceeded(_ width: Int) {
    #expect(line.rendered(width: width).count <= width)
    #expect(ProgressLine(step: 5, totalSteps: 0).rendered(width: width).count <= width)
  }

  @Test(arguments: [
    (0.4, "00:00"), (59.6, "01:00"), (3599, "59:59"), (3600, "1:00:00"), (90061, "1d 01:01:01"), (.nan, "?"), (-1, "?"),
  ])
  func durations(_ seconds: Double, text: String) { #expect(ProgressLine.duration(seconds) == text) }

  @Test(arguments: [
    (0, "0"), (1234.56, "1235"), (-12345.6, "-12346"), (8e-6, "8e-06"), (0.123456, "0.1235"), (.nan, "nan"),
  ])
  func numbers(_ value: Double, text: String) { #expect(ProgressLine.number(value) == text) }

  private let entry = LogEntry(step: 10, epoch: 0.25, metrics: [.init("loss", 1.5), .init("rewards/margins", 1e-3)])

  @Test func withoutATerminalThereAreOnlyPlainLines() {
    var output = ""
    let console = Console(totalSteps: 40, terminal: nil, output: { output += $0 }, now: { 0 })
    console.progress(step: 1, loss: 1, margin: 0, tokensPerSecond: 1)
    console.note("saving")
    console.write(entry)
    console.finish()
    #expect(output == "saving\nstep 10/40  epoch 0.25  loss 1.5  rewards/margins 0.001\n")
  }

  @Test func onATerminalLinesStandAboveTheProgressLine() {
    var output: [String] = []
    var time = 0.0
    let console = Console(totalSteps: 40, terminal: Terminal { 60 }, output: { output.append($0) }, now: { time })
    console.note("start")
    time = 2
    console.progress(step: 1, loss: 1.5, margin: 0.5, tokensPerSecond: 10)
    console.write(entry)
    console.finish()
    let bar = "1/40  loss 1.5  margin 0.5  10 tokens/s  01:18 left"
    #expect(output[0] == "start\n")
    #expect(output[1] == "\r\u{1B}[2K" + bar)
    #expect(output[2] == "\r\u{1B}[2Kstep 10/40  epoch 0.25  loss 1.5  rewards/margins 0.001\n" + bar)
    #expect(output[3] == "\r\u{1B}[2K" + bar + "\n")
  }

  @Test func theTimeLeftFollowsTheStepsOfThisRun() {
    var output = ""
    var time = 0.0
    let console = Console(
      totalSteps: 110, firstStep: 100, terminal: Terminal { 200 }, output: { output = $0 }, now: { time })
    time = 10
    console.progress(step: 101, loss: 1, margin: 0, tokensPerSecond: 1)
    #expect(output.hasSuffix("01:30 left"))
    time = 30
    console.progress(step: 102, loss: 1, margin: 0, tokensPerSecond: 1)
    #expect(output.hasSuffix("01:28 left"))  // 8 steps of 10 + (20 - 10) / 10 seconds
  }

  @Test func aFastRunIsNotDrawnAtEveryStep() {
    var drawn = 0
    var time = 0.0
    let console = Console(totalSteps: 1000, terminal: Terminal { 80 }, output: { _ in drawn += 1 }, now: { time })
    for step in 1...1000 {
      time += 0.001
      console.progress(step: step, loss: 1, margin: 0, tokensPerSecond: 1)
    }
    #expect((15...25).contains(drawn))
  }
}
