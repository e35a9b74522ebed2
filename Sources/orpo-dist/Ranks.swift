import Collectives
import Foundation
import Tokenization
import Training

/// Runs a command on all ranks and turns whatever happens into one clear message and an exit code.
enum Ranks {
  /// - Parameters:
  ///   - configuration: read before MPI starts; a failure is reported after, so that all ranks end together.
  ///   - body: gets the configuration, the job and, on rank 0 when rows need it, the chat helper.
  static func run(
    _ configuration: () throws -> TrainingConfiguration,
    _ body: (TrainingConfiguration, Job, ChatRenderer?) throws -> Void
  ) throws {
    let configured = Result { try configuration() }
    // Processes must be started before MPI is; only rank 0 renders templates.
    let chat = Result { () throws -> ChatRenderer? in
      guard Launch.isRankZero, let files = try? configured.get().dataFiles, ChatTemplates.areNeeded(for: files) else {
        return nil
      }
      return try ChatRenderer.start()
    }
    try collectively { communicator in
      let settings = try communicator.together { try configured.get() }
      let renderer = try communicator.together { try chat.get() }
      try communicator.requireSame("version of orpo-dist", Version.text)
      try communicator.requireSame("configuration", settings.comparisonText)
      try communicator.requireSameFiles(settings.dataFiles)
      let job = try Job(communicator, threads: settings.threadsPerRank)
      defer { job.stop() }
      try body(settings, job, renderer)
    }
  }

  /// Starts MPI, runs `body`, ends MPI. An error that all ranks share ends them in order; any other takes the job down.
  static func collectively(_ body: (Communicator) throws -> Void) throws {
    let communicator: Communicator
    do { communicator = try Communicator.start() } catch {
      StandardError.write("orpo-dist: \(error)\n")
      exit(1)
    }
    do {
      try body(communicator)
      try communicator.finish()
    } catch let error as any RaisedOnEveryRank {
      if communicator.isRoot { StandardError.write("orpo-dist: \(error)\n") }
      try? communicator.finish()
      exit(1)
    } catch {
      communicator.fail(error)
    }
  }
}

/// What the launcher says of this process before MPI has started.
enum Launch {
  /// Whether this will be rank 0; true without a launcher.
  static var isRankZero: Bool {
    let environment = ProcessInfo.processInfo.environment
    for name in ["OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"] {
      if let rank = environment[name] { return rank == "0" }
    }
    return true
  }
}

extension TrainingConfiguration {
  fileprivate var dataFiles: [String] { trainFile + evalFile }
}
