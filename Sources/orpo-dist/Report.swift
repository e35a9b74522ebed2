import ArgumentParser
import Training

struct Report: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Write a run as one HTML page: curves, health, speed, ranks, faults, checkpoints, data, configuration.",
    usage: "orpo-dist report OUTPUT_DIR [--output FILE] [--verify]",
    discussion: """
      Runs alone, while the run goes on or after. The page needs nothing else: no network and
      no scripts, so it can be mailed or kept as it is.

        orpo-dist report out                        writes out/report.html
        orpo-dist report out --output page.html
      """)

  @Argument(help: ArgumentHelp("The output_dir of a run.", valueName: "output-dir"))
  var folder: String
  @Option(name: .long, help: ArgumentHelp("Where to write the page; OUTPUT_DIR/report.html when not given."))
  var output: String?
  @Flag(name: .long, help: "Read the newest checkpoint and compare every file with its checksum.")
  var verify = false

  mutating func run() throws {
    // One page, also when somebody starts several ranks.
    guard Launch.isRankZero else { return }
    let found = try RunFolder(path: folder, verify: verify)
    let page = HTMLReport(found, health: RunHealth(found)).text
    let file = output ?? (folder.hasSuffix("/") ? String(folder.dropLast()) : folder) + "/report.html"
    try AppendedFile.replace(file, with: Array(page.utf8))
    print("the report is in \(file)")
  }
}
