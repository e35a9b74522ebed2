import Checkpoints
import Collectives
import Foundation

/// `output_dir` before a run begins.
enum OutputFolder {
  /// Refuses, on all ranks, a folder in which a run would destroy something; clears what dead runs left half saved.
  static func check(
    _ configuration: TrainingConfiguration, _ store: CheckpointStore, _ start: TrainingRun.Start, _ job: Job
  ) throws {
    try job.communicator.together {
      guard job.isRoot else { return }
      let folder = configuration.outputDir
      if isSame(folder, configuration.modelNameOrPath) {
        throw OutputFolderError(
          "output_dir and model_name_or_path are the same folder, \(folder): the trained model would overwrite the one it starts from; choose another output_dir"
        )
      }
      var isFolder: ObjCBool = false
      if FileManager.default.fileExists(atPath: folder, isDirectory: &isFolder), !isFolder.boolValue {
        throw OutputFolderError("output_dir \(folder) is a file, not a folder")
      }
      for name in try store.removeLeftovers() {
        job.note("cleared \(folder)/\(name), left by a run that was interrupted")
      }
      if case .checkpoint(let directory) = start {
        guard Folders.exists(directory) else {
          throw OutputFolderError(
            "--resume \(directory): no such folder; it takes a checkpoint folder such as \(folder)/checkpoint-100")
        }
        _ = try Checkpoint(directory: directory)
      }
    }
  }

  /// Whether two paths lead to the same file or folder, through links too.
  private static func isSame(_ a: String, _ b: String) -> Bool {
    var (first, second) = (stat(), stat())
    guard stat(a, &first) == 0, stat(b, &second) == 0 else { return false }
    return first.st_dev == second.st_dev && first.st_ino == second.st_ino
  }
}

/// Why a run cannot write where it is told to.
struct OutputFolderError: Error, CustomStringConvertible {
  var description: String
  init(_ description: String) { self.description = description }
}
