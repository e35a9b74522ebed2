import ArgumentParser
import Collectives
import Foundation
import Glibc
import Training

/// The command line: parse, wire, run, exit code. What the commands do is in `Training`.
@main
struct OrpoDist: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "orpo-dist",
    abstract: "ORPO training of language models over MPI ranks, on CPUs.",
    discussion: """
      Run a command under mpirun or srun to spread it over ranks, or alone as a
      single rank:

        mpirun -n 4 orpo-dist                           check this cluster
        mpirun -n 4 orpo-dist train --config run.yaml   train
          ... --resume                                  from the newest checkpoint on
        mpirun -n 4 orpo-dist bench --config run.yaml   where the time of a step goes
        orpo-dist plan --config run.yaml --ranks 16     what a run will take
        orpo-dist status out                            how a run is doing
        orpo-dist report out                            a run as one HTML page
        orpo-dist data --config run.yaml                what becomes of the rows
        orpo-dist generate --model out --prompt Hello   talk to the result

      Configuration keys are those of TRL's ORPOConfig; key=value arguments override the file.
      """,
    version: Version.text,
    subcommands: [
      Train.self, Evaluate.self, Generate.self, Data.self, Bench.self, Plan.self, Status.self, Report.self, Check.self,
    ],
    defaultSubcommand: Check.self)

  static func main() {
    // A file that reaches the limit on file sizes is an error of that write, not the end of the process.
    signal(SIGXFSZ, SIG_IGN)
    var command: any ParsableCommand
    do {
      let arguments = Array(CommandLine.arguments.dropFirst())
      try requireKnownCommand(arguments.first)
      command = try parseAsRoot(ResumeArgument.spelledOut(arguments))
    } catch {
      endBeforeRunning(error)
    }
    do { try command.run() } catch {
      // `help` is a command whose run ends with its text.
      if exitCode(for: error).isSuccess { endBeforeRunning(error) }
      StandardError.write("orpo-dist: \(error)\n")
      Glibc.exit(1)
    }
  }

  /// The parser would take an unknown command for an argument of the default one.
  private static func requireKnownCommand(_ name: String?) throws {
    guard let name, !name.hasPrefix("-") else { return }
    let known = configuration.subcommands.map { $0._commandName } + ["help"]
    if known.contains(name) { return }
    throw ValidationError("'\(name)' is not a command; commands are \(known.joined(separator: ", "))")
  }

  /// Help, version, or what is wrong with the arguments: said once, however many ranks were given them.
  private static func endBeforeRunning(_ error: any Error) -> Never {
    let code = exitCode(for: error)
    if code.isSuccess {
      if Launch.isRankZero { Self.exit(withError: error) }
      Glibc.exit(0)
    }
    var text = fullMessage(for: error)
    if text.hasPrefix("Error: ") { text.removeFirst("Error: ".count) }
    if Launch.hasSeveralRanks {
      try? Ranks.collectively { try $0.together { throw ArgumentError(description: text) } }
    } else {
      StandardError.write("orpo-dist: \(text)\n")
    }
    Glibc.exit(code.rawValue)
  }
}

/// What is wrong with the arguments of one rank.
private struct ArgumentError: Error, CustomStringConvertible {
  var description: String
}

/// `--resume [DIR]`: an option whose value may be left out, which the parser does not know.
enum ResumeArgument {
  /// `--resume DIR` becomes `--resume-from DIR`, unless what follows is another option or a `key=value`.
  static func spelledOut(_ arguments: [String]) -> [String] {
    guard arguments.first == "train" else { return arguments }
    var result: [String] = []
    for (index, argument) in arguments.enumerated() {
      if argument == "--resume", index + 1 < arguments.count, isFolder(arguments[index + 1]) {
        result.append("--resume-from")
      } else if argument.hasPrefix("--resume=") {
        result.append("--resume-from=" + argument.dropFirst("--resume=".count))
      } else {
        result.append(argument)
      }
    }
    return result
  }

  /// A folder's name may hold a "=", too; a setting has nothing but a key before it.
  private static func isFolder(_ text: String) -> Bool {
    guard !text.hasPrefix("-") else { return false }
    guard let equals = text.firstIndex(of: "=") else { return true }
    return !text[..<equals].allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "_") }
  }
}
