import ArgumentParser
import Training

struct Data: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Show what the data pipeline makes of the rows: counts, lengths, what is truncated or left out and why.",
    usage: "orpo-dist data --config FILE [--dump N] [key=value ...]")

  @OptionGroup var options: ConfigurationOptions

  @Option(
    name: .long,
    help: ArgumentHelp("Print the first N pairs as JSON lines of token ids, in file order.", valueName: "n"))
  var dump: Int?

  func validate() throws {
    if let dump, dump < 0 { throw ValidationError("--dump takes a number of pairs, at least 0") }
  }

  mutating func run() throws {
    let (options, dump) = (options, dump)
    try Ranks.run("data", { try options.read(for: .data) }) { configuration, job, chat in
      try DataRun.run(
        configuration, dump: dump, job: job, chat: chat, report: { StandardOutput.write($0 + "\n") },
        line: { print($0) })
    }
  }
}
