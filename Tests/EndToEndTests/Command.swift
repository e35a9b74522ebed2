import Foundation
import Testing

/// Why a test could not look at a run at all.
struct RunError: Error, CustomStringConvertible {
  var description: String
}

/// A finished process.
struct CommandResult {
  var exitCode: Int32
  var standardOutput: String
  var standardError: String

  /// Both streams, for looking up a message wherever it was written.
  var output: String { standardOutput + standardError }
}

/// A started `orpo-dist`, alone or under `mpirun`.
final class Command {
  let process = Process()
  private let scratch: URL
  private let ended = DispatchSemaphore(value: 0)

  /// A group of ranks with the same arguments.
  struct Ranks {
    var count: Int
    var arguments: [String]
    var workingDirectory: URL?
    /// What runs in place of `orpo-dist`.
    var program: URL?
    /// Words before the program.
    var prefix: [String] = []
  }

  /// Starts `orpo-dist` under `mpirun`; several groups start one job whose ranks differ in arguments.
  static func mpirun(_ groups: [Ranks], in scratch: URL, environment: [String: String] = [:]) throws -> Command {
    let binary = try binary().path
    var arguments = ["mpirun", "--allow-run-as-root", "--oversubscribe"]
    for (index, group) in groups.enumerated() {
      if index > 0 { arguments.append(":") }
      arguments += ["-n", "\(group.count)"]
      if let directory = group.workingDirectory { arguments += ["-wdir", directory.path] }
      arguments += group.prefix + [group.program?.path ?? binary] + group.arguments
    }
    return try Command(arguments, in: scratch, environment: environment)
  }

  /// Starts one `orpo-dist` without `mpirun`.
  static func alone(_ arguments: [String], in scratch: URL) throws -> Command {
    try Command([binary().path] + arguments, in: scratch)
  }

  private init(_ arguments: [String], in scratch: URL, environment: [String: String] = [:]) throws {
    self.scratch = scratch.appending(path: "output-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: self.scratch, withIntermediateDirectories: true)
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = arguments
    process.environment = Self.environment().merging(environment) { $1 }
    process.standardInput = FileHandle.nullDevice
    // Files, not pipes: nobody has to drain them while the job runs.
    process.standardOutput = try Self.created(self.scratch.appending(path: "stdout"))
    process.standardError = try Self.created(self.scratch.appending(path: "stderr"))
    process.terminationHandler = { [ended] _ in ended.signal() }
    try process.run()
  }

  /// A test that fails before it has waited leaves no job behind.
  deinit { if process.isRunning { process.terminate() } }

  /// Waits for the end. A job that hangs is ended and reported; nothing is said about how long a good one takes.
  func wait(atMost seconds: Int = 120) throws -> CommandResult {
    if ended.wait(timeout: .now() + .seconds(seconds)) == .timedOut {
      process.terminate()
      if ended.wait(timeout: .now() + .seconds(5)) == .timedOut { kill(process.processIdentifier, SIGKILL) }
      throw RunError(description: "still running after \(seconds) s:\n" + (try read("stdout")) + (try read("stderr")))
    }
    return CommandResult(
      exitCode: process.terminationReason == .exit ? process.terminationStatus : 128 + process.terminationStatus,
      standardOutput: try read("stdout"), standardError: try read("stderr"))
  }

  /// Process ids of the ranks: the children of `mpirun`.
  func rankProcesses() throws -> [pid_t] {
    try FileManager.default.contentsOfDirectory(atPath: "/proc").compactMap(pid_t.init).filter { pid in
      // The process name is in parentheses and may hold anything; state and parent follow it.
      guard let stat = try? String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8),
        let end = stat.lastIndex(of: ")")
      else { return false }
      let fields = stat[stat.index(after: end)...].split(separator: " ")
      return fields.count > 1 && pid_t(fields[1]) == process.processIdentifier
    }.sorted()
  }

  /// Whether a running job has said so on standard error.
  func hasSaid(_ text: String) throws -> Bool { try read("stderr").contains(text) }

  private func read(_ stream: String) throws -> String {
    String(decoding: try Data(contentsOf: scratch.appending(path: stream)), as: UTF8.self)
  }

  private static func created(_ file: URL) throws -> FileHandle {
    try Data().write(to: file)
    return try FileHandle(forWritingTo: file)
  }

  /// The environment of the tests, without traces of a surrounding MPI job and with what containers need.
  private static func environment() -> [String: String] {
    var environment = ProcessInfo.processInfo.environment.filter {
      !$0.key.hasPrefix("OMPI_") && !$0.key.hasPrefix("PMIX_")
    }
    environment["OMPI_ALLOW_RUN_AS_ROOT"] = "1"
    environment["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] = "1"
    // Processes of one machine only: no remote shell, no network, no copying between address spaces.
    environment["OMPI_MCA_plm"] = "isolated"
    environment["OMPI_MCA_btl"] = "self,vader"
    environment["OMPI_MCA_btl_vader_single_copy_mechanism"] = "none"
    // More ranks than cores are the rule here.
    environment["OMPI_MCA_rmaps_base_oversubscribe"] = "1"
    environment["OMPI_MCA_mpi_yield_when_idle"] = "1"
    environment["OMPI_MCA_hwloc_base_binding_policy"] = "none"
    return environment
  }

  /// `ORPO_DIST_BINARY`, or the command built beside the tests.
  static func binary() throws -> URL {
    let name = "orpo-dist"
    if let path = ProcessInfo.processInfo.environment["ORPO_DIST_BINARY"] {
      guard FileManager.default.isExecutableFile(atPath: path) else {
        throw RunError(description: "ORPO_DIST_BINARY=\(path) is not an executable file")
      }
      return URL(fileURLWithPath: path)
    }
    let package = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appending(path: "../..")
      .standardizedFileURL
    #if DEBUG
      let configuration = "debug"
    #else
      let configuration = "release"
    #endif
    let running = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent()
    let candidates = [running.appending(path: name), package.appending(path: ".build/\(configuration)/\(name)")]
    guard let found = candidates.first(where: { FileManager.default.isExecutableFile(atPath: $0.path) }) else {
      throw RunError(
        description:
          "no \(name) at \(candidates.map(\.path).joined(separator: " or ")): build it, or set ORPO_DIST_BINARY")
    }
    return found
  }
}
