import Collectives
import Foundation
import Tokenization
import Training

/// Runs a command on all ranks and turns whatever happens into one clear message and an exit code.
enum Ranks {
  /// - Parameters:
  ///   - command: what all ranks must have been started for, options included.
  ///   - configuration: read before MPI starts; a failure is reported after, so that all ranks end together.
  ///   - body: gets the configuration, the job and, on rank 0 when rows need it, the chat helper.
  static func run(
    _ command: String, _ configuration: () throws -> TrainingConfiguration,
    _ body: (TrainingConfiguration, Job, ChatRenderer?) throws -> Void
  ) throws {
    let configured = Result { try configuration() }
    // Processes must be started before MPI is; only rank 0 renders templates.
    let chat = Result { () throws -> ChatRenderer? in
      guard Launch.isRankZero, let settings = try? configured.get(),
        ChatTemplates.areNeeded(for: settings.trainFile + settings.evalFile)
      else { return nil }
      return try ChatRenderer.start()
    }
    try collectively { communicator in
      // First, because ranks of different programs may understand nothing else alike.
      try communicator.requireSameProgram()
      let settings = try communicator.together { try configured.get() }
      try communicator.requireSame("command", command)
      try communicator.requireSame("configuration", settings.comparisonText)
      try communicator.requireSameModel(settings.modelNameOrPath)
      try communicator.requireSameFiles("data", settings.trainFile + settings.evalFile)
      let renderer = try communicator.together { try chat.get() }
      let job = try Job(communicator, threads: settings.threadsPerRank)
      defer { job.stop() }
      let heartbeat = try Heartbeat(communicator, job.progress, watchdogSeconds: settings.watchdogSeconds)
      if communicator.worldSize > 1, !heartbeat.connectsRanks {
        job.note("note: MPI lets only one thread speak: a rank that falls silent is noticed by the launcher alone")
      }
      // Any other error ends the job without another word between ranks.
      do { try body(settings, job, renderer) } catch let error as any RaisedOnEveryRank {
        try heartbeat.end()
        throw error
      }
      try heartbeat.end()
    }
  }

  /// Starts MPI, runs `body`, ends MPI. An error that all ranks share ends them in order; any other takes the job down.
  static func collectively(_ body: (Communicator) throws -> Void) throws {
    // Without a launcher Open MPI would start a daemon of its own, through the remote shell where it finds one.
    setenv("OMPI_MCA_ess_singleton_isolated", "1", 0)
    let communicator: Communicator
    do { communicator = try Communicator.start() } catch {
      StandardError.write("orpo-dist: \(error)\n")
      exit(1)
    }
    // A launcher or a rank at the other end that went away is an error of that write, with a name, not the end of this process.
    if communicator.worldSize > 1 { signal(SIGPIPE, SIG_IGN) }
    do {
      try body(communicator)
      try communicator.finish()
    } catch let error as any RaisedOnEveryRank {
      if communicator.isRoot { StandardError.write("orpo-dist: \(error)\n") }
      try? communicator.finish()
      exit(error.exitCode)
    } catch {
      communicator.fail(error)
    }
  }
}

/// What the launcher says of this process before MPI has started.
enum Launch {
  /// Whether this will be rank 0; true without a launcher.
  static var isRankZero: Bool {
    number(["OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"]).map { $0 == 0 } ?? true
  }

  /// Whether other processes were started with this one.
  static var hasSeveralRanks: Bool { (number(["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"]) ?? 1) > 1 }

  private static func number(_ names: [String]) -> Int? {
    let environment = ProcessInfo.processInfo.environment
    for name in names {
      if let value = environment[name].flatMap({ Int($0) }) { return value }
    }
    return nil
  }
}
