import Collectives
import Foundation
import Glibc

/// A fault on purpose, for trying out what a run, its scripts and its people do about one: the environment variable
/// `ORPO_DIST_DRILL`, such as `flip-gradient@step=5,rank=1`. It strikes once, in that step of a run's first attempt at it.
struct Drill: Equatable {
  enum Kind: String, CaseIterable {
    /// One of the rank's gradients becomes 1e30, as by a flipped bit of its exponent.
    case flipGradient = "flip-gradient"
    /// One of the rank's gradients becomes NaN.
    case nanGradient = "nan-gradient"
    /// A bit of one of the rank's parameters flips after the step.
    case flipParameter = "flip-parameter"
    /// The rank's process is stopped (SIGSTOP), killed (SIGKILL), or computes nothing any more.
    case stop, kill, hang
  }

  static let variable = "ORPO_DIST_DRILL"

  var kind: Kind
  /// Counted from 1, as in the log.
  var step: Int
  var rank: Int

  /// What the environment asks for; nil when it asks for nothing.
  static func fromEnvironment() throws -> Drill? {
    guard let text = ProcessInfo.processInfo.environment[variable], !text.isEmpty else { return nil }
    guard let drill = Drill(text) else {
      throw DrillError(
        description:
          "\(variable)=\(text): expected KIND@step=N,rank=R with KIND one of \(Kind.allCases.map(\.rawValue).joined(separator: ", "))"
      )
    }
    return drill
  }

  init?(_ text: String) {
    let parts = text.split(separator: "@", omittingEmptySubsequences: false)
    guard parts.count == 2, let kind = Kind(rawValue: String(parts[0])) else { return nil }
    let settings = parts[1].split(separator: ",", omittingEmptySubsequences: false)
    guard settings.count == 2, settings[0].hasPrefix("step="), settings[1].hasPrefix("rank="),
      let step = Int(settings[0].dropFirst(5)), let rank = Int(settings[1].dropFirst(5)), step > 0, rank >= 0
    else { return nil }
    (self.kind, self.step, self.rank) = (kind, step, rank)
  }

  /// On the rank it is meant for, while its gradients are still zero.
  func strike(gradients: UnsafeMutableBufferPointer<Float>) {
    switch kind {
    case .flipGradient: if !gradients.isEmpty { gradients[gradients.count / 2] = 1e30 }
    case .nanGradient: if !gradients.isEmpty { gradients[gradients.count / 2] = .nan }
    case .stop: raise(SIGSTOP)
    case .kill: raise(SIGKILL)
    case .hang: while true { sleep(3600) }
    case .flipParameter: break
    }
  }

  /// On the rank it is meant for, after the step.
  func strike(parameters: UnsafeMutableBufferPointer<Float>) {
    guard kind == .flipParameter, !parameters.isEmpty else { return }
    let value = parameters[parameters.count / 2]
    parameters[parameters.count / 2] = Float(bitPattern: value.bitPattern ^ 1 << 20)
  }
}

/// A drill that cannot be understood; every rank has the same environment.
struct DrillError: Error, CustomStringConvertible {
  var description: String
}
