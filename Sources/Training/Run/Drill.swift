import Collectives
import Foundation
import Glibc
import JSON

/// A fault on purpose, for trying out what a run, its scripts and its people do about one: the environment variable
/// `ORPO_DIST_DRILL`, such as `flip-gradient@step=20,rank=1`. It strikes once, in that step of a run's first attempt at it; what the run is started again
/// with afterwards does it no harm.
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

  var text: String { "\(kind.rawValue)@step=\(step),rank=\(rank)" }

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

extension TrainingRun {
  /// Announces a drill, and leaves out one that was done before.
  func announceDrill() throws {
    guard let drill else { return }
    let wasDone = try communicator.fromRoot {
      let path = configuration.outputDir + "/" + RunJournal.fileName
      return RunJournal.holds("drill", [("drill", drill.text)], path: path) ? [1] : []
    }
    if wasDone.isEmpty {
      job.note(
        "warning: \(Drill.variable): a fault on purpose, \(drill.kind.rawValue) in step \(drill.step) on rank \(drill.rank)"
      )
    } else {
      job.note(
        "note: \(Drill.variable): \(drill.text) was done before in \(configuration.outputDir), and is not done again")
      self.drill = nil
    }
  }

  /// The drill that is due in this step, on the rank it is meant for. What it does may leave nobody to note it afterwards.
  func dueDrill(step number: Int) throws -> Drill? {
    guard let drill, drill.step == number else { return nil }
    self.drill = nil
    _ = try communicator.fromRoot {
      journal?.append("drill", step: number - 1, [("drill", .string(drill.text))])
      return []
    }
    return drill.rank == communicator.rank ? drill : nil
  }
}
