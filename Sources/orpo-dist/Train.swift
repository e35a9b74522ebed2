import ArgumentParser
import Training

struct Train: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Train a model on preference pairs; the result is a Hugging Face folder in output_dir.",
    usage: "mpirun -n RANKS orpo-dist train --config FILE [--resume [DIR]] [key=value ...]")

  @OptionGroup var options: ConfigurationOptions

  @Flag(
    name: .long,
    help: """
      Go on from the newest complete checkpoint in output_dir also when settings have changed, \
      or from the folder named right after it. Without it a run goes on by itself as long as \
      its settings are the same.
      """)
  var resume = false

  /// What `--resume DIR` is spelled out to.
  @Option(name: .long, help: .hidden)
  var resumeFrom: String?

  mutating func run() throws {
    let options = options
    let start: TrainingRun.Start = resumeFrom.map { .checkpoint($0) } ?? (resume ? .newestCheckpoint : .automatic)
    try Ranks.run("train \(start)", { try options.read(for: .train) }) { configuration, job, chat in
      try TrainingRun(configuration, from: start, job: job, chat: chat).run()
    }
  }
}
