import Collectives
import Foundation

/// What a person sees of a run, on standard error: on a terminal a progress line that is redrawn, with everything else
/// above it; elsewhere plain lines only.
package final class Console: MetricSink {
  package let name = "console"
  private let totalSteps: Int
  private let terminal: Terminal?
  private let output: (String) -> Void
  private let now: () -> Double

  private var line: ProgressLine?
  private var lastDrawn = -Double.infinity
  /// Step and time of the last `progress`, for the time a step takes.
  private var last: (step: Int, time: Double)
  private var secondsPerStep: Double?

  /// - Parameters:
  ///   - firstStep: steps done already when the run continues an earlier one.
  ///   - now: seconds on a clock that never goes back.
  package init(
    totalSteps: Int, firstStep: Int = 0, terminal: Terminal? = Terminal.onStandardError(),
    output: @escaping (String) -> Void = { FileHandle.standardError.tryWrite($0) },
    now: @escaping () -> Double = { ProcessInfo.processInfo.systemUptime }
  ) {
    self.totalSteps = totalSteps
    self.terminal = terminal
    self.output = output
    self.now = now
    last = (firstStep, now())
  }

  /// After every step. Does nothing without a terminal.
  package func progress(step: Int, loss: Double, margin: Double, tokensPerSecond: Double) {
    guard terminal != nil else { return }
    let time = now()
    if step > last.step {
      let measured = (time - last.time) / Double(step - last.step)
      // A moving average over about ten steps: the first step and evaluations must not spoil the estimate for long.
      secondsPerStep = secondsPerStep.map { $0 + (measured - $0) / 10 } ?? measured
      last = (step, time)
    }
    line = ProgressLine(
      step: step, totalSteps: totalSteps, loss: loss, margin: margin, tokensPerSecond: tokensPerSecond,
      secondsLeft: secondsPerStep.map { $0 * Double(max(0, totalSteps - step)) })
    guard time - lastDrawn >= 0.05 || step >= totalSteps else { return }
    lastDrawn = time
    output(Self.clear + bar)
  }

  /// A line of its own, above the progress line.
  package func note(_ text: String) {
    output((line == nil ? "" : Self.clear) + PlainText.message(text) + "\n" + bar)
  }

  /// The metrics as `name value` pairs.
  package func write(_ entry: LogEntry) {
    let head = "step \(entry.step)/\(totalSteps)  epoch \(ProgressLine.number(entry.epoch))"
    note(([head] + entry.metrics.map { "\($0.name) \(ProgressLine.number($0.value))" }).joined(separator: "  "))
  }

  /// Leaves the progress line as it stands and goes below it.
  package func finish() {
    if line != nil { output(Self.clear + bar + "\n") }
    line = nil
  }

  private static let clear = "\r\u{1B}[2K"

  /// One column is left free: a full line would make some terminals wrap.
  private var bar: String {
    guard let line, let terminal else { return "" }
    return line.rendered(width: max(1, terminal.columns() - 1))
  }
}

extension FileHandle {
  /// A terminal that went away is no reason to stop.
  package func tryWrite(_ text: String) { try? write(contentsOf: Data(text.utf8)) }
}
