import Foundation

/// Where a run stands, as one line.
package struct ProgressLine: Sendable, Equatable {
  package var step: Int
  package var totalSteps: Int
  package var loss: Double?
  package var margin: Double?
  package var tokensPerSecond: Double?
  package var secondsLeft: Double?

  package init(
    step: Int, totalSteps: Int, loss: Double? = nil, margin: Double? = nil, tokensPerSecond: Double? = nil,
    secondsLeft: Double? = nil
  ) {
    self.step = step
    self.totalSteps = totalSteps
    self.loss = loss
    self.margin = margin
    self.tokensPerSecond = tokensPerSecond
    self.secondsLeft = secondsLeft
  }

  /// At most `width` characters: the bar takes what the figures leave; where they do not fit, the bar goes first, then
  /// margin, speed, time left, loss.
  package func rendered(width: Int) -> String {
    let count = "\(step)/\(totalSteps)"
    let loss = loss.map { "loss \(Self.number($0))" }
    let margin = margin.map { "margin \(Self.number($0))" }
    let speed = tokensPerSecond.map { "\(Self.number($0.rounded())) tokens/s" }
    let left = secondsLeft.map { "\(Self.duration($0)) left" }
    let choices = [
      [count, loss, margin, speed, left], [count, loss, speed, left], [count, loss, left], [count, loss], [count],
    ].map { $0.compactMap(\.self).joined(separator: "  ") }
    let text = choices.first { $0.count <= width } ?? String(count.prefix(max(0, width)))
    // "[", "]" and a space; a bar shorter than 10 says nothing.
    let bar = min(40, width - text.count - 3)
    guard text == choices[0], bar >= 10 else { return text }
    let done = totalSteps > 0 ? bar * min(step, totalSteps) / totalSteps : 0
    return "[" + String(repeating: "=", count: done) + String(repeating: " ", count: bar - done) + "] " + text
  }

  /// Four significant digits, thousands and above whole.
  package static func number(_ value: Double) -> String {
    // Its sign says nothing.
    if value.isNaN { return "nan" }
    return String(format: abs(value) >= 1000 ? "%.0f" : "%.4g", value)
  }

  /// `59:59`, `1:00:00`, `2d 03:04:05`.
  package static func duration(_ seconds: Double) -> String {
    guard seconds.isFinite, seconds >= 0, seconds < 1e9 else { return "?" }
    let whole = Int(seconds.rounded())
    let (days, hours, minutes) = (whole / 86400, whole / 3600 % 24, whole / 60 % 60)
    let clock = String(format: "%02d:%02d", minutes, whole % 60)
    if days > 0 { return "\(days)d " + String(format: "%02d:", hours) + clock }
    return hours > 0 ? "\(hours):" + clock : clock
  }
}
