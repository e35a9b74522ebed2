import ArgumentParser
import Training

struct Train: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Train a model on preference pairs; the result is a Hugging Face folder in output_dir.",
    usage: "mpirun -n RANKS orpo-dist train --config FILE [--resume [DIR]] [key=value ...]")

  @OptionGroup var options: ConfigurationOptions

  @Flag(name: .long, help: "Go on from the newest complete checkpoint in output_dir (or from the one named after it).")
  var resume = false

  mutating func run() throws {
    var overrides = options.overrides
    var start = resume ? TrainingRun.Start.newestCheckpoint : .new
    // `--resume DIR`: a settings argument always has a "=", a folder is what has none.
    if resume, let index = overrides.firstIndex(where: { !$0.contains("=") }) {
      start = .checkpoint(overrides.remove(at: index))
    }
    let file = options.config
    try Ranks.run({ try TrainingConfiguration(file: file, overrides: overrides, for: .train) }) { configuration, job, chat in
      try TrainingRun(configuration, job: job, chat: chat).run(from: start)
    }
  }
}
