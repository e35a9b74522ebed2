import Checkpoints
import Foundation
package import JSON
import ModelFiles

/// An output folder as it is found, whether a run is under way, over, or dead: everything `status` and `report` know.
package struct RunFolder {
  package struct SavedCheckpoint: Sendable {
    package var step: Int
    package var bytes: Int
    /// When it was complete, in seconds since 1970.
    package var time: Double?
    package var isVerified = false
    /// Why it cannot be used.
    package var defect: String?
    package var name: String { "checkpoint-\(step)" }
  }

  package let path: String
  /// When the folder was looked at, in seconds since 1970.
  package let time: Double
  package var status: RunStatus?
  package var journal = JournalDigest()
  /// By the names of the log; only metrics that are shown somewhere.
  package var curves: [String: Curve] = [:]
  /// Of each step that was logged: newest values.
  package var lastLog: LogEntry?
  package var lastEvaluation: LogEntry?
  /// Newest first.
  package var checkpoints: [SavedCheckpoint] = []
  /// Lines of `orpo_config.yaml`.
  package var configuration: [String] = []
  package var dataReport: JSONValue?
  /// Files that could not be used, or not wholly.
  package var problems: [String] = []

  /// Metrics whose curves are kept.
  package static let curveNames: Set<String> = [
    "loss", "nll_loss", "log_odds_ratio", "log_odds_chosen", "rewards/chosen", "rewards/rejected",
    "rewards/accuracies", "rewards/margins", "logps/chosen", "logps/rejected", "grad_norm", "learning_rate",
    "tokens_per_second", "pairs_per_second", "step_time", "mfu", "imbalance", "comm_time", "comm_tail_time",
    "peak_memory_gb", "eval_loss", "eval_nll_loss", "eval_log_odds_ratio", "eval_log_odds_chosen",
    "eval_rewards/accuracies", "eval_rewards/margins", "eval_rewards/chosen", "eval_rewards/rejected",
    "eval_logps/chosen", "eval_logps/rejected",
  ]
  private static let checkpointLimit = 200

  /// - Parameter verify: read every file of the newest checkpoint and compare checksums.
  /// - Throws: when there is no such folder, or nothing of a run in it.
  package init(path: String, verify: Bool = false, now: Double = Date().timeIntervalSince1970) throws {
    self.path = path
    time = now
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else {
      throw WatchedFileError("\(path.cleaned): no such folder; give the output_dir of a run")
    }
    guard isFolder.boolValue else {
      throw WatchedFileError("\(path.cleaned) is a file, not a folder; give the output_dir of a run")
    }
    readStatus()
    readMetrics()
    readJournal()
    attempt {
      let text = try WatchedFile.contents(path + "/orpo_config.yaml", limit: 1 << 20)
      $0.configuration = String(decoding: text ?? [], as: UTF8.self).split(separator: "\n").map {
        String($0).cleaned
      }
    }
    attempt { $0.dataReport = try WatchedFile.json(path + "/" + Self.dataReportFile) }
    findCheckpoints(verify: verify)
    guard
      status != nil || lastLog != nil || lastEvaluation != nil || !journal.isEmpty || !configuration.isEmpty
        || !checkpoints.isEmpty || !problems.isEmpty
    else {
      throw WatchedFileError(
        "\(path.cleaned) holds no run: none of \(RunStatus.fileName), metrics.jsonl, \(RunJournal.fileName) and "
          + "orpo_config.yaml is there; give the output_dir of a run")
    }
  }

  package static let dataReportFile = "data_report.json"

  private mutating func attempt(_ body: (inout RunFolder) throws -> Void) {
    do { try body(&self) } catch { problems.append("\(error)".cleaned) }
  }

  private mutating func readStatus() {
    do {
      guard let json = try WatchedFile.json(path + "/" + RunStatus.fileName) else { return }
      status = RunStatus(json: json)
      if status == nil {
        problems.append("\(path)/\(RunStatus.fileName): no known state and time in it; not written by this program")
      }
    } catch { problems.append("\(error)".cleaned) }
  }

  private mutating func readMetrics() {
    var (curves, log, evaluation): ([String: Curve], LogEntry?, LogEntry?) = ([:], nil, nil)
    do {
      let skipped = try WatchedFile.lines(path + "/metrics.jsonl") { line in
        guard let entry = LogEntry(json: line) else { return }
        for metric in entry.metrics where Self.curveNames.contains(metric.name) {
          curves[metric.name, default: Curve()].add(step: entry.step, value: metric.value)
        }
        if entry["eval_loss"] != nil { evaluation = entry } else if entry["loss"] != nil { log = entry }
      }
      note(skipped, in: "metrics.jsonl")
    } catch { problems.append("\(error)".cleaned) }
    (self.curves, lastLog, lastEvaluation) = (curves, log, evaluation)
  }

  private mutating func readJournal() {
    var digest = JournalDigest()
    do {
      let skipped = try WatchedFile.lines(path + "/" + RunJournal.fileName) { digest.add($0.cleaned) }
      note(skipped, in: RunJournal.fileName)
    } catch { problems.append("\(error)".cleaned) }
    journal = digest
  }

  private mutating func note(_ skipped: WatchedFile.Skipped?, in name: String) {
    guard let skipped, let first = skipped.firstLine else { return }
    let count = skipped.lines == 1 ? "1 line is" : "\(skipped.lines) lines are"
    problems.append("\(path)/\(name): \(count) left out, the first is line \(first): \(skipped.reason)".cleaned)
  }

  private mutating func findCheckpoints(verify: Bool) {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
    let steps = names.compactMap { name -> Int? in
      guard name.hasPrefix("checkpoint-"), let step = Int(name.dropFirst(11)), name == "checkpoint-\(step)", step >= 0
      else {
        return nil
      }
      return step
    }.sorted(by: >)
    let store = CheckpointStore(outputDirectory: path)
    for step in steps.prefix(Self.checkpointLimit) {
      var found = SavedCheckpoint(step: step, bytes: 0)
      var manifest = Glibc.stat()
      if stat("\(path)/\(found.name)/checkpoint.json", &manifest) == 0 {
        found.time = Double(manifest.st_mtim.tv_sec) + Double(manifest.st_mtim.tv_nsec) / 1e9
      }
      do {
        let checkpoint = try store.checkpoint(step: step)
        found.bytes = checkpoint.files.reduce(0) { $0.addingReportingOverflow($1.size).partialValue }
        if verify, !checkpoints.contains(where: \.isVerified) {
          try checkpoint.verify()
          found.isVerified = true
        }
      } catch {
        // One that was pruned while we looked is no defect.
        guard Folders.exists("\(path)/\(found.name)") else { continue }
        found.defect = "\(error)".cleaned
      }
      checkpoints.append(found)
    }
  }
}
