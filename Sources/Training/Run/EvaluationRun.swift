import Collectives
import Decoder
import Foundation
import JSON
import ORPO
import Packing
import Preferences
import Tensors
package import Tokenization

/// `orpo-dist eval`: the `eval_` metrics of a model on held-out pairs, over all ranks.
package enum EvaluationRun {
  /// Returns the metrics as one JSON object on one line; the same on every rank.
  package static func run(_ configuration: TrainingConfiguration, job: Job, chat: ChatRenderer?) throws -> String {
    let (source, decoderConfiguration) = try job.openModel(configuration.modelNameOrPath)
    let data = try job.loadData(configuration, source: source, chat: chat, needsTraining: false)
    chat?.stop()
    if let report = data.evaluationReport ?? data.trainingReport { job.note(report.text()) }
    let decoder = try job.makeDecoder(
      decoderConfiguration, from: source, precision: job.precision(configuration.bf16))
    let cost = decoderConfiguration.pairCost(parameters: decoder.layout.count)
    let plan = GlobalBatchSampler.evaluationPlan(
      measures: data.evaluation.map { PairMeasure($0, cost: cost) },
      division: BatchDivision(worldSize: job.communicator.worldSize, parts: configuration.parts),
      deviceBatch: configuration.perDeviceEvalBatchSize, normalization: configuration.lossNormalization,
      nllTokens: configuration.nllTokens)
    decoder.reserve(
      ORPOStep.limits(
        data.evaluation, .init(rowsPerMicroBatch: configuration.rowsPerMicroBatch), training: false))
    let began = ProcessInfo.processInfo.systemUptime
    StopSignals.listen(besides: job.pool)
    let pass = EvaluationPass(
      decoder: decoder, objective: configuration.objective, rowsPerMicroBatch: configuration.rowsPerMicroBatch,
      communicator: job.communicator, progress: job.progress)
    let evaluated = try pass.metrics(of: data.evaluation, plan: plan) { StopSignals.received != nil }
    guard let metrics = evaluated else {
      throw TrainingStopped(description: "stopped by a signal before the evaluation was over")
    }
    let seconds = ProcessInfo.processInfo.systemUptime - began
    if !metrics.loss.isFinite {
      job.note("warning: the loss of \(configuration.modelNameOrPath) on these pairs is not finite")
    }
    let values =
      metrics.named(prefix: "eval_") + [
        ("eval_runtime", seconds), ("eval_pairs_per_second", metrics.pairCount / seconds),
        ("eval_pairs", metrics.pairCount),
      ]
    return JSONValue.object(JSONObject(values.map { ($0.0, .double($0.1)) })).serialized()
  }
}
