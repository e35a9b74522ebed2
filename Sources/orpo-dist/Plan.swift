import ArgumentParser
import Tokenization
import Training

struct Plan: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Predict memory, time and network of a run on many ranks, from a short measurement here.",
    usage: """
      orpo-dist plan --config FILE --ranks N [--hosts H] [--bandwidth GBIT] [--threads T]
                            [--json FILE] [key=value ...]
      """,
    discussion: """
      Runs alone, without mpirun. Needs the model's config.json (or a GGUF file), not its
      weights: some layers of the same shape are trained here for some ten seconds, with as
      many ranks at once as a host will have. The data are read and tokenized when they are
      there; otherwise lengths are assumed from max_length, and the report says so.

      The report: memory of a rank, seconds of a step (passes, waiting for the busiest rank,
      optimizer, communication that does not hide behind backward), speed against as many
      single ranks, and the hours of the run. A model that does not fit this machine is
      planned as well, and the report says that it does not fit.

        orpo-dist plan --config run.yaml --ranks 2
        orpo-dist plan --config configs/mistral-7b-orpo.yaml --ranks 16 --hosts 16 --bandwidth 25 --threads 32
      """)

  @OptionGroup var options: ConfigurationOptions
  @Option(name: .long, help: ArgumentHelp("Ranks of the run.", valueName: "n"))
  var ranks: Int
  @Option(name: .long, help: ArgumentHelp("Hosts they are spread over, each like this machine.", valueName: "h"))
  var hosts = 1
  @Option(name: .long, help: ArgumentHelp("Gbit/s out of a host, and as many into it.", valueName: "gbit"))
  var bandwidth = 10.0
  @Option(
    name: .long,
    help: ArgumentHelp(
      "Threads of a rank; this machine's cores shared by a host's ranks when not given.", valueName: "t"))
  var threads: Int?
  @Option(name: .long, help: ArgumentHelp("Write all figures to this file as JSON.", valueName: "file"))
  var json: String?

  func validate() throws {
    if ranks < 1 { throw ValidationError("--ranks is \(ranks); expected at least 1") }
    if hosts < 1 || hosts > ranks {
      throw ValidationError("--hosts is \(hosts); expected between 1 and the number of ranks, \(ranks)")
    }
    if !(bandwidth > 0) || bandwidth.isInfinite {
      throw ValidationError("--bandwidth is \(bandwidth); expected a number of Gbit/s above 0")
    }
    if let threads, threads < 1 { throw ValidationError("--threads is \(threads); expected at least 1") }
  }

  mutating func run() throws {
    // One plan, also when somebody starts several ranks.
    guard Launch.isRankZero else { return }
    let configuration = try options.read(for: .plan)
    let settings = PlanRun.Settings(
      ranks: ranks, hosts: hosts, bandwidth: bandwidth, threads: threads, jsonFile: json)
    let chat = ChatTemplates.areNeeded(for: configuration.trainFile) ? try? ChatRenderer.start() : nil
    try PlanRun.run(
      configuration, settings, chat: chat, note: { StandardError.write($0 + "\n") },
      print: { StandardOutput.write($0 + "\n") })
  }
}
