import Collectives
import DataParallel
import Dispatch
import Foundation
import Tensors

/// A job that one of its ranks brings down, and what must be seen of it.
private struct FailingJob {
  let name: String
  let ranks: Int
  /// What the ranks are told to do; see `failOnPurpose`.
  let arguments: [String]
  /// Parts of the one line on standard error; `nil` where no rank is left to write it.
  let line: [String]?
}

private let failingJobs: [FailingJob] = [
  .init(
    name: "rank 0 alone", ranks: 1, arguments: ["throws", "0"],
    line: ["rank 0 of 1 on ", "no such batch; second line"]),
  .init(
    name: "rank 0 of 2", ranks: 2, arguments: ["throws", "0"], line: ["rank 0 of 2 on ", "no such batch; second line"]),
  .init(name: "the last of 4", ranks: 4, arguments: ["throws", "3"], line: ["rank 3 of 4 on ", "no such batch"]),
  .init(
    name: "different configurations", ranks: 3, arguments: ["differs", "2"],
    line: ["rank 0 of 3 on ", "do not have the same configuration", "rank 2 on ", "`seed: 2`", "`seed: 0`"]),
  .init(
    name: "buffers of different sizes", ranks: 2, arguments: ["sizes", "1"],
    line: ["rank 1 of 2 on ", "MPI_Bcast failed", "MPI_ERR_TRUNCATE"]),
  .init(
    name: "gradients of different sizes", ranks: 2, arguments: ["gradients", "1"],
    line: ["rank 0 of 2 on ", "MPI_Testall failed", "MPI_ERR_TRUNCATE"]),
  .init(
    name: "a rank killed while the others sum through shared memory", ranks: 4, arguments: ["lost", "1"], line: nil),
  .init(name: "a rank that ends without a word", ranks: 3, arguments: ["exits", "1"], line: nil),
  .init(name: "a killed rank", ranks: 3, arguments: ["killed", "2"], line: nil),
  .init(
    name: "a stopped rank", ranks: 4, arguments: ["stopped", "2"],
    line: ["rank 0 of 4 on ", "not heard of for 4 s: rank 2 of 4 on ", "(last: step 1, forward)"]),
  .init(
    name: "a stopped rank 0", ranks: 4, arguments: ["stopped", "0"],
    line: ["rank 1 of 4 on ", "not heard of for 6 s: rank 0 of 4 on ", "(last: step 1, forward)"]),
]

/// What a rank of a failing job does: `throws`, `differs`, `sizes`, `gradients`, `exits`, `killed`, `lost` or `stopped`, and
/// the rank that does it; `slow`, which pauses it for a moment; `suspended`, which pauses all; or `writes`, where it writes a
/// large checkpoint for which the others wait.
func failOnPurpose(_ arguments: [String]) -> Int32 {
  guard arguments.count == 2, let culprit = Int(arguments[1]) else { return 2 }
  do {
    let world = try Communicator.start()
    do {
      if arguments[0] == "suspended" || arguments[0] == "slow" {
        try bePaused(world, isPaused: arguments[0] == "suspended" || world.rank == culprit)
        return 0
      }
      if arguments[0] == "writes" {
        try waitForALongSave(world, writes: world.rank == culprit)
        return 0
      }
      if arguments[0] == "stopped" { _ = try hastyHeartbeat(world, watchdogSeconds: 0) }
      try world.barrier()
      if world.rank == culprit {
        switch arguments[0] {
        case "stopped":
          // Where it is must have been told before.
          sleep(1)
          kill(getpid(), SIGSTOP)
        case "throws": throw Unexpected("no such batch\nsecond line")
        case "exits": _exit(0)
        case "killed": kill(getpid(), SIGKILL)
        case "lost": try sumForever(world, untilKilled: true)
        default: break
        }
      }
      if arguments[0] == "differs" {
        try world.requireSame("configuration", "beta: 0.1\nseed: \(world.rank == culprit ? 2 : 0)\n")
      }
      if arguments[0] == "sizes" {
        var bytes = [UInt8](repeating: 0, count: world.rank == culprit ? 10 : 1000)
        try bytes.withUnsafeMutableBytes { try world.broadcast($0) }
      }
      if arguments[0] == "gradients" {
        let arena = AlignedBuffer<Float>(count: world.rank == culprit ? 2000 : 1000)
        let mesh = try RankMesh(world, windowBytes: 0)
        defer { withExtendedLifetime(arena) {} }
        try GradientReducer(mesh: mesh, gradients: arena.values, overlaps: true).finish()
      }
      if arguments[0] == "lost" { try sumForever(world, untilKilled: false) }
      // The others wait for a rank that never comes.
      var values = [Float](repeating: 1, count: 1 << 20)
      while true { try values.withUnsafeMutableBufferPointer { try world.allReduce(sum: $0) } }
    } catch {
      world.fail(error)
    }
  } catch {
    print("rank-tests: \(error)")
    return 1
  }
}

/// Steps of a training that has only reductions, through the window and on a thread of its own.
private func sumForever(_ world: Communicator, untilKilled: Bool) throws {
  let arena = AlignedBuffer<Float>(count: 1 << 20)
  let reducer = GradientReducer(
    mesh: try RankMesh(world), gradients: arena.values, result: .ownSlices, bucketBytes: 1 << 18, overlaps: true)
  try expect(reducer.overlaps && reducer.mesh.warning == nil, "no thread, or \(reducer.mesh.warning ?? "")")
  defer { withExtendedLifetime(arena) {} }
  for step in 0... {
    try reducer.ready(upTo: arena.count / 2)
    if untilKilled, step == 3 { kill(getpid(), SIGKILL) }
    try reducer.finish()
  }
}

/// Watches with a fraction of the usual patience, in a first step that has begun.
private func hastyHeartbeat(
  _ world: Communicator, watchdogSeconds: Int, bytesWritten: @escaping @Sendable () -> Int = { 0 }
) throws -> (Heartbeat, RankProgress) {
  var limits = Heartbeat.Limits()
  (limits.interval, limits.pause, limits.longestPause) = (300, 50, 1500)
  (limits.silenceOfRank, limits.silenceOfRoot, limits.laterThanRankOne) = (4000, 6000, 2000)
  limits.silenceToTell = 2000
  let progress = RankProgress(bytesWritten: bytesWritten)
  let heartbeat = try Heartbeat(world, progress, watchdogSeconds: watchdogSeconds, limits: limits)
  try expect(heartbeat.connectsRanks, "ranks do not hear of each other")
  progress.enter(.forward, step: 1)
  return (heartbeat, progress)
}

/// A step in which the process is stopped until it is woken, and that goes on for a while after.
private func bePaused(_ world: Communicator, isPaused: Bool) throws {
  let (heartbeat, progress) = try hastyHeartbeat(world, watchdogSeconds: 4)
  try world.barrier()
  // Where it is must have been told before.
  sleep(1)
  if isPaused { kill(getpid(), SIGSTOP) }
  sleep(2)
  progress.enter(.reduction)
  var values = [Float](repeating: 1, count: 1 << 16)
  try values.withUnsafeMutableBufferPointer { try world.allReduce(sum: $0) }
  try heartbeat.end()
  try world.finish()
}

/// A checkpoint that takes longer than the watchdog's patience, and gets on all the while.
private func waitForALongSave(_ world: Communicator, writes: Bool) throws {
  let began = Date()
  let (heartbeat, progress) = try hastyHeartbeat(world, watchdogSeconds: 2) {
    writes ? Int(Date().timeIntervalSince(began) * 1000) : 0
  }
  progress.enter(.checkpoint)
  sleep(5)
  try world.barrier()
  try heartbeat.end()
  try world.finish()
}

/// Starts the failing jobs one after the other. Started without mpirun: a process that has initialised MPI must not
/// fork.
func runAbortChecks() -> Int32 {
  var passed = 0
  var failed = 0
  func report(_ name: String, _ check: () throws -> Void) {
    do {
      try check()
      passed += 1
      print("ok \(name)")
    } catch {
      failed += 1
      print("FAILED \(name): \(error)")
    }
    fflush(nil)
  }
  for job in failingJobs { report(job.name) { try check(job) } }
  report("a launcher that is not Open MPI's", checkForeignLauncher)
  report("a job that is suspended for a while goes on", checkSuspension)
  report("a rank that is silent for a moment is told of", checkShortSilence)
  report("a long save gets on as long as bytes are written", checkLongSave)
  print("\(passed) passed, \(failed) failed")
  return failed == 0 ? 0 : 1
}

private func check(_ job: FailingJob) throws {
  let (status, output) = try outcome(
    ["mpirun", "--allow-run-as-root", "--oversubscribe", "-n", "\(job.ranks)", ownPath, "fail"] + job.arguments)
  try expect(status != 0, "the job's exit code is 0: \(output)")
  let lines = output.split(separator: "\n").filter { $0.hasPrefix("orpo-dist: ") }
  guard let parts = job.line else { return }
  try expectEqual(lines.count, 1, "number of lines in \(output)")
  for part in parts { try expect(lines[0].contains(part), "\(part) is not in \(lines[0])") }
}

/// What `srun` without an MPI plug-in that Open MPI understands looks like from inside.
private func checkForeignLauncher() throws {
  let (status, output) = try outcome(["SLURM_STEP_NUM_TASKS=4", ownPath, "fail", "throws", "0"])
  try expect(status != 0, "the exit code is 0: \(output)")
  try expect(output.contains("the launcher started 4 processes"), output)
}

/// As a scheduler does that gives the machine to another job: all ranks are stopped, and later go on.
private func checkSuspension() throws {
  let (status, output) = try outcomeOfPause("suspended", stoppedRanks: 3, seconds: 8)
  try expectEqual(status, 0, "the exit code, with the output \(output),")
  try expect(!output.contains("warning"), output)
}

/// A rank that is missed for less than the limit is a warning.
private func checkShortSilence() throws {
  let (status, output) = try outcomeOfPause("slow", stoppedRanks: 1, seconds: 2.8)
  try expectEqual(status, 0, "the exit code, with the output \(output),")
  try expect(output.contains("warning: not heard of for 2 s: rank 1 of 3 on "), output)
  try expect(output.contains("(last: step 1, forward)"), output)
  try expect(output.contains("warning: heard of again after "), output)
}

/// All ranks stand in one phase for longer than the watchdog waits, and one of them writes.
private func checkLongSave() throws {
  let (status, output) = try outcome(
    ["mpirun", "--allow-run-as-root", "--oversubscribe", "-n", "2", ownPath, "fail", "writes", "1"])
  try expectEqual(status, 0, "the exit code, with the output \(output),")
}

/// Of a job in which rank 1 or all ranks stop themselves and are woken up after `seconds`.
private func outcomeOfPause(
  _ what: String, stoppedRanks: Int, seconds: Double
) throws -> (status: Int32, output: String) {
  try outcome(
    ["mpirun", "--allow-run-as-root", "--oversubscribe", "-n", "3", ownPath, "fail", what, "1"]
  ) { launcher in
    var stopped: [pid_t] = []
    while launcher.isRunning, stopped.count < stoppedRanks {
      usleep(100_000)
      stopped = stoppedChildren(of: launcher.processIdentifier)
    }
    usleep(UInt32(seconds * 1e6))
    for process in stopped { kill(process, SIGCONT) }
  }
}

private func stoppedChildren(of parent: pid_t) -> [pid_t] {
  let processes = (try? FileManager.default.contentsOfDirectory(atPath: "/proc").compactMap { pid_t($0) }) ?? []
  return processes.filter { process in
    // The name is in parentheses and may hold anything; state and parent follow it.
    guard let stat = try? String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8),
      let end = stat.lastIndex(of: ")")
    else { return false }
    let fields = stat[stat.index(after: end)...].split(separator: " ")
    return fields.count > 1 && fields[0] == "T" && pid_t(fields[1]) == parent
  }
}

private var ownPath: String { "/proc/\(getpid())/exe" }

/// Exit code and all output of a command; one that hangs is ended after a minute, where two seconds are usual.
///
/// - Parameter meddle: what to do to the running process.
private func outcome(
  _ command: [String], _ meddle: (Process) -> Void = { _ in }
) throws -> (status: Int32, output: String) {
  let process = Process()
  process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
  process.arguments = command
  let pipe = Pipe()
  process.standardOutput = pipe
  process.standardError = pipe
  try process.run()
  let watchdog = DispatchWorkItem { process.terminate() }
  DispatchQueue.global().asyncAfter(deadline: .now() + 60, execute: watchdog)
  meddle(process)
  let output = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
  process.waitUntilExit()
  let hung = watchdog.wait(timeout: .now()) == .success
  watchdog.cancel()
  try expect(!hung, "had to be ended after 60 s: \(output)")
  return (process.terminationStatus, output)
}
