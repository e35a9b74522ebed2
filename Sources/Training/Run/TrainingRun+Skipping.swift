import Collectives
import Decoder
import Foundation
import JSON
import ORPO
import Preferences

/// Steps whose loss or gradient cannot be: computed once more, and left out when they come out the same.
extension TrainingRun {
  /// A step whose loss is finite and whose gradient norm is plausible, or one that is marked as skipped because neither of
  /// two attempts was. A fault of memory or of a transfer does not come twice, and then the step is as if nothing had been.
  func soundStep(_ index: Int, learningRate: Double) throws -> ORPOStep.Outcome {
    func attempt() throws -> ORPOStep.Outcome {
      try step.run(
        index, learningRate: learningRate, normLimit: progress.norms.limit, asksToStop: asksToStop)
    }
    let drill = try dueDrill(step: index + 1)
    if let drill { step.disturb = { drill.strike(gradients: $0) } }
    var outcome = try attempt()
    if outcome.isSkipped {
      let cause = try cause(outcome)
      outcome = try attempt()
      if !outcome.isSkipped {
        console?.note("warning: step \(index + 1) was computed again, and is right now: \(cause)")
        journal?.append("step_retried", step: index + 1, [("cause", .string(cause))])
      }
    }
    if !outcome.isSkipped { progress.norms.add(outcome.gradientNorm) }
    drill?.strike(parameters: step.decoder.parameters)
    return outcome
  }

  /// What is wrong with a step, and whose gradients show it. A collective call.
  private func cause(_ outcome: ORPOStep.Outcome) throws -> String {
    let hosts = try communicator.allGather(communicator.hostName)
    let norms = outcome.rankNorms
    let bad = norms.indices.filter { !norms[$0].isFinite }
    let blamed = bad.isEmpty ? norms.indices.max { norms[$0] < norms[$1] }.map { [$0] } ?? [] : bad
    let named = blamed.prefix(3).map {
      "rank \($0) of \(norms.count) on \(hosts[$0]) (norm \(ProgressLine.number(norms[$0])))"
    }
    return
      "loss \(ProgressLine.number(outcome.metrics.loss)), grad_norm \(ProgressLine.number(outcome.gradientNorm)), "
      + "from the gradients of " + named.joined(separator: ", ") + (blamed.count > 3 ? " and more" : "")
  }

  /// Counts a skipped step on all ranks alike; ends the run when there are too many in a row.
  func noteSkip(_ outcome: ORPOStep.Outcome, _ plan: StepPlan) throws {
    guard outcome.isSkipped else {
      progress.skippedInARow = 0
      return
    }
    progress.skippedSteps += 1
    progress.skippedInARow += 1
    let cause = try cause(outcome)
    let names = plan.pairs.prefix(4).compactMap { locations.indices.contains($0) ? "\(locations[$0])" : nil }
    console?.note(
      "warning: step \(progress.step) skipped, twice the same: \(cause); its pairs begin with \(names.joined(separator: ", "))"
    )
    journal?.append(
      "step_skipped", step: progress.step,
      [
        ("loss", .double(outcome.metrics.loss)), ("grad_norm", .double(outcome.gradientNorm)),
        ("cause", .string(cause)), ("pairs", .string(names.joined(separator: ", "))),
      ])
    guard progress.skippedInARow >= configuration.maxSkippedSteps else { return }
    try logWindow()
    throw TrainingStopped(
      description:
        "stopped at step \(progress.step): loss or gradient was not finite, or far beyond that of earlier steps, in \(progress.skippedInARow) steps in a row; "
        + "no model was written, checkpoints are as they were. Continue from one with a lower learning_rate, or check the model's weights"
    )
  }
}
