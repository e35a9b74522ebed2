import ArgumentParser
import Training

struct Evaluate: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "eval",
    abstract: "Evaluate a model on eval_file (or the eval_split of train_file); metrics as JSON on the last line.",
    usage: "mpirun -n RANKS orpo-dist eval --config FILE [key=value ...]")

  @OptionGroup var options: ConfigurationOptions

  mutating func run() throws {
    let options = options
    try Ranks.run("eval", { try options.read(for: .eval) }) { configuration, job, chat in
      let entry = try EvaluationRun.run(configuration, job: job, chat: chat)
      if job.isRoot { print(entry) }
    }
  }
}
