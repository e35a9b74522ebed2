import ArgumentParser
import Glibc
import Training

struct Bench: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Measure what the machines can do and, with a model, where the time of a training step goes.",
    usage: "mpirun -n RANKS orpo-dist bench [--config FILE] [--model DIR_OR_GGUF] [--json FILE] [key=value ...]",
    discussion: """
      Prints ceilings, with all ranks at work at once: matrix products at a layer's and the
      head's shapes (GFLOP/s), main memory (GB/s), all-reduce from 64 KB to 256 MB (GB/s).

      With a model it then does a few real training steps and divides their time into
      embedding, norms, products, attention, head, softmax, optimizer, reduction and waiting
      for slower ranks, with each product group's speed against its ceiling, and the MFU:
      useful work (rows that are computed once, no padding, nothing twice) against the
      measured speed of products. Pairs come from train_file, else from built-in text.
      Nothing is saved.

        mpirun -n 2 orpo-dist bench
        mpirun -n 2 orpo-dist bench --config run.yaml --json bench.json
        orpo-dist bench --model out rows_per_micro_batch=2048 gradient_accumulation_steps=8
      """)

  @Option(name: .long, help: ArgumentHelp("YAML file with a run's settings: model, data, batch.", valueName: "file"))
  var config: String?
  @Option(
    name: .long, help: ArgumentHelp("Hugging Face folder or GGUF file; overrides the file's.", valueName: "dir-or-gguf")
  )
  var model: String?
  @Option(name: .long, help: ArgumentHelp("Steps to measure, after one that warms up.", valueName: "n"))
  var steps = 3
  @Option(name: .long, help: ArgumentHelp("Write all figures to this file as JSON.", valueName: "file"))
  var json: String?
  @Argument(
    help: ArgumentHelp("Settings that override the file, such as train_file=pairs.jsonl.", valueName: "key=value"))
  var overrides: [String] = []

  func validate() throws {
    if steps < 1 { throw ValidationError("--steps is \(steps); expected at least 1") }
  }

  mutating func run() throws {
    let (file, overrides) = (config, overrides + (model.map { ["model_name_or_path=\($0)"] } ?? []))
    let settings = BenchRun.Settings(steps: steps, jsonFile: json)
    try Ranks.run("bench \(steps)", { try TrainingConfiguration(forBench: file, overrides: overrides) }) {
      configuration, job, chat in
      try BenchRun.run(configuration, settings, job: job, chat: chat) { line in
        print(line)
        fflush(nil)
      }
    }
  }
}
