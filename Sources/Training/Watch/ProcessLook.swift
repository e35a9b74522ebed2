import Foundation

/// What Linux says of a process on this machine.
package enum ProcessLook {
  package enum State: Equatable, Sendable {
    case running
    /// By SIGSTOP or a debugger.
    case halted
    case gone
  }

  /// - Parameter start: what `start(of:)` said of it; another start is another process.
  package static func state(of pid: Int, start: Int?) -> State {
    guard let fields = fields(of: pid), let found = Int(fields[19]) else { return .gone }
    if let start, found != start { return .gone }
    switch fields[0] {
    case "T", "t": return .halted
    case "Z", "X": return .gone
    default: return .running
    }
  }

  /// When a process was started, in clock ticks since boot.
  package static func start(of pid: Int) -> Int? { fields(of: pid).flatMap { Int($0[19]) } }

  /// Fields of /proc/PID/stat from the state (field 3) on.
  private static func fields(of pid: Int) -> [Substring]? {
    guard pid > 0, let text = try? String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8),
      // The process name before it is in parentheses and may hold anything.
      let end = text.lastIndex(of: ")")
    else { return nil }
    let fields = text[text.index(after: end)...].split(separator: " ")
    return fields.count > 19 ? fields : nil
  }
}
