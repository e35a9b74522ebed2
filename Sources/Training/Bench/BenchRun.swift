import Collectives
import Decoder
import Foundation
import JSON
import Kernels
import ORPO
import Packing
import Preferences
import Timeline
package import Tokenization

/// `orpo-dist bench`: what the machines can do, and, with a model, where the time of a training step goes.
package enum BenchRun {
  package struct Settings: Sendable {
    /// Steps that are measured, after one that is not.
    package var steps: Int
    /// Where the figures are written as JSON; nil writes none.
    package var jsonFile: String?

    package init(steps: Int, jsonFile: String?) {
      self.steps = steps
      self.jsonFile = jsonFile
    }
  }

  /// A collective call. Nothing is trained for good: no file but the JSON is written.
  ///
  /// - Parameters:
  ///   - configuration: without a model only the machines are measured; without `train_file` the step is done on
  ///     built-in text.
  ///   - print: called on rank 0 alone.
  package static func run(
    _ configuration: TrainingConfiguration, _ settings: Settings, job: Job, chat: ChatRenderer?,
    print: (String) -> Void
  ) throws {
    func say(_ text: String) { if job.isRoot { print(text) } }
    let placement = try Placement(job)
    let (ranks, hosts) = (job.communicator.worldSize, placement.nodes.count)
    say(
      "orpo-dist \(Version.text): bench of \(SelfCheck.counted(ranks, "rank")) on \(SelfCheck.counted(hosts, "host")), "
        + "\(SelfCheck.counted(job.pool.threadCount, "thread")) each\n")
    for remark in placement.remarks() { say(remark + "\n") }

    let hasModel = !configuration.modelNameOrPath.isEmpty
    let model = try hasModel ? job.openModel(configuration.modelNameOrPath) : nil
    let shape = model?.configuration ?? Ceilings.referenceModel
    let ceilings = try Ceilings(job, model: shape, rows: configuration.rowsPerMicroBatch)
    say(ceilings.text)
    var report: [(key: String, value: JSONValue)] = [
      ("version", .string(Version.text)), ("ranks", .integer(ranks)), ("threads", .integer(job.pool.threadCount)),
      ("ceilings", ceilings.json),
    ]
    if let model {
      let data = try pairs(configuration, model.source, job, chat)
      let step = try StepMeasurement(
        configuration, model, pairs: data.pairs, origin: data.origin, steps: settings.steps, ceilings: ceilings, job)
      if job.isRoot {
        say(step.text)
        report.append(("step", step.json))
      }
    } else {
      say("shapes of SmolLM2-135M; --model DIR_OR_GGUF measures the model's own shapes and a step of its training")
    }
    try job.communicator.together {
      guard job.isRoot, let file = settings.jsonFile else { return }
      try AppendedFile.replace(
        file, with: Array((JSONValue.object(JSONObject(report)).serialized(indent: 2) + "\n").utf8))
    }
  }

  /// The configuration's training pairs, or built-in ones, on every rank.
  private static func pairs(
    _ configuration: TrainingConfiguration, _ source: ModelSource?, _ job: Job, _ chat: ChatRenderer?
  ) throws -> (pairs: [TokenizedPair], origin: String) {
    if !configuration.trainFile.isEmpty {
      var training = configuration
      (training.evalFile, training.evalSplit) = ([], 0)
      let data = try job.loadData(training, source: source, chat: chat)
      chat?.stop()
      return (data.training, configuration.trainFile.joined(separator: ", "))
    }
    let bytes = try job.communicator.fromRoot {
      guard let source else { return [] }
      return PairTransport.encode(
        try BuiltInPairs.tokenized(BuiltInPairs.long, with: source.tokenizer, truncation: configuration.truncation))
    }
    return (PairTransport.decode(bytes), "built-in text")
  }
}
