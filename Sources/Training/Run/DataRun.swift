import Collectives
import Kernels
import Packing
import Preferences
package import Tokenization

/// `orpo-dist data`: what the pipeline makes of the rows.
package enum DataRun {
  /// Hands over the report, or the first `dump` pairs as JSON lines in file order (the report then goes to standard error).
  package static func run(
    _ configuration: TrainingConfiguration, dump: Int?, job: Job, chat: ChatRenderer?, report: (String) -> Void,
    line: (String) -> Void
  ) throws {
    try job.communicator.together {
      guard job.isRoot else { return }
      let source = try ModelSource(path: configuration.modelNameOrPath)
      var unsplit = configuration
      // Every row is shown where it stands in its file, held out or not.
      unsplit.evalSplit = 0
      let data = try RunData.load(
        unsplit, tokenizer: source.tokenizer, chat: chat.flatMap { $0.rendering(for: source.tokenizer) },
        threads: job.pool.threadCount, needsTraining: !configuration.trainFile.isEmpty)
      chat?.stop()
      let reports = [data.trainingReport, data.evaluationReport].compactMap { $0?.text() }
      guard let dump else { return reports.forEach(report) }
      for pair in (data.training + data.evaluation).prefix(dump) { line(pair.dumpLine) }
      reports.forEach(job.note)
    }
  }
}
