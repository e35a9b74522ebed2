import Collectives
import Foundation
import JSON
import ModelFiles

/// Which start of a run writes to `output_dir`. A scheduler that has lost sight of a node starts its run again elsewhere, while
/// the first start may train on and both would write the same files: the later one takes the folder over, the earlier one
/// ends. Kept on rank 0.
final class OutputClaim {
  static let fileName = "owner.json"

  private let path: String
  private let own: [UInt8]
  private var lastLook = ProcessInfo.processInfo.systemUptime

  /// Between two looks at the file, which may be on a slow disk.
  private static let seconds = 5.0

  /// Takes the folder over from whoever has it.
  init(outputDirectory: String, host: String) throws(FileError) {
    path = outputDirectory + "/" + Self.fileName
    let claim: JSONValue = [
      "host": .string(host), "process": .integer(Int(ProcessInfo.processInfo.processIdentifier)),
      "since": .string(ISO8601DateFormatter().string(from: Date())),
      "start": .string(String(UInt64.random(in: .min ... .max), radix: 16)),
    ]
    own = Array((claim.serialized() + "\n").utf8)
    try AppendedFile.replace(path, with: own)
  }

  /// Who has taken the folder over; nil while nobody has, and while that cannot be read.
  var successor: String? {
    lastLook = ProcessInfo.processInfo.systemUptime
    guard let file = try? ReadableFile(path: path), file.size < 1 << 12,
      let bytes = try? file.bytes(at: 0, count: file.size), bytes != own, let claim = try? JSONValue(parsing: bytes),
      let host = claim["host"]?.string, let process = claim["process"]?.integer, let since = claim["since"]?.string
    else { return nil }
    return "a start of \(since) on \(host) (rank 0 is process \(process))"
  }

  /// Whether somebody has; looks at most every few seconds.
  var isLost: Bool { ProcessInfo.processInfo.systemUptime - lastLook > Self.seconds && successor != nil }
}

extension TrainingRun {
  /// Whether this rank wants all of them to end at the end of the step.
  var asksToStop: Bool { StopSignals.received != nil || claim?.isLost == true }

  /// - Throws: `TrainingStopped` on all ranks, when another start writes to the output folder now. A collective call.
  func requireClaim(at done: Int) throws {
    let successor = try communicator.fromRoot { Array((claim?.successor ?? "").utf8) }
    guard !successor.isEmpty else { return }
    log?.finish()
    throw TrainingStopped(
      description:
        "after step \(done): \(String(decoding: successor, as: UTF8.self)) has taken over \(configuration.outputDir), and only one may write there; this one ends and saves nothing",
      exitCode: TrainingStopped.takenOver)
  }
}
