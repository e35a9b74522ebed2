import ArgumentParser
import Foundation
import Training

struct Status: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract:
      "Show how a run is doing: step, speed, loss curve, checkpoints, ranks, health; while it goes on or after.",
    usage: "orpo-dist status OUTPUT_DIR [--verify] [--json]",
    discussion: """
      Reads the run's output_dir only, and changes nothing: it runs alone, without mpirun, on
      any machine that sees the folder. Whether the run lives is judged from how long ago its
      status was written and, on the host of rank 0, from its process.

        orpo-dist status out
        watch -n 5 orpo-dist status out
        orpo-dist status out --json | jq .health        ok, note, warning or alarm

      The curve is drawn in Braille characters, or in ASCII where the locale is not UTF-8.
      """)

  @Argument(help: ArgumentHelp("The output_dir of a run.", valueName: "output-dir"))
  var folder: String
  @Flag(name: .long, help: "Read the newest checkpoint and compare every file with its checksum.")
  var verify = false
  @Flag(name: .long, help: "Print one JSON object.")
  var json = false

  mutating func run() throws {
    // One look, also when somebody starts several ranks.
    guard Launch.isRankZero else { return }
    let found = try RunFolder(path: folder, verify: verify)
    let health = RunHealth(found)
    if json { return print(found.jsonText(health)) }
    let columns =
      Terminal.onStandardOutput()?.columns() ?? ProcessInfo.processInfo.environment["COLUMNS"].flatMap { Int($0) } ?? 80
    print(StatusText(found, health: health, columns: columns, isUnicode: Terminal.isUTF8).text)
  }
}
