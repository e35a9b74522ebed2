import Checkpoints
import Collectives
import Foundation

/// `output_dir` before a run begins.
enum OutputFolder {
  /// Refuses, on all ranks, a folder in which a run would destroy something, and a checkpoint to start from that is not there.
  static func check(_ configuration: TrainingConfiguration, _ start: TrainingRun.Start, _ job: Job) throws {
    let communicator = job.communicator
    try communicator.together {
      guard job.isRoot || configuration.saveSharded else { return }
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
    }
    guard case .checkpoint(let directory) = start else { return }
    // The run may have saved others since, and removed this one.
    let hasOthers = try communicator.together {
      job.isRoot ? try !CheckpointStore(outputDirectory: configuration.outputDir).steps().isEmpty : false
    }
    if try communicator.allGather(hasOthers ? 1 : 0).contains(1) { return }
    let first = try communicator.allGather(Folders.exists(directory) ? 1 : 0).firstIndex(of: 1)
    try communicator.together {
      guard let first else {
        throw OutputFolderError(
          "--resume \(directory): no such folder; it takes a checkpoint folder such as \(configuration.outputDir)/checkpoint-100"
        )
      }
      if communicator.rank == first { _ = try Checkpoint(directory: directory) }
    }
  }

  /// Clears what dead runs left half saved, on every disk that is written to.
  static func clear(_ store: CheckpointStore, _ disks: OutputDisks?, _ job: Job) throws {
    let communicator = job.communicator
    let cleared = try communicator.together {
      (disks?.leaders[communicator.rank] ?? 0) == communicator.rank ? try store.removeLeftovers() : []
    }
    let lines = cleared.map { "cleared \(store.outputDirectory)/\($0), left by a run that was interrupted" }
    for text in try communicator.allGather(lines.joined(separator: "\n")) where !text.isEmpty { job.note(text) }
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
