package import Preferences

extension TrainingConfiguration {
  /// Weight of the odds-ratio term, under whichever of its two names it was given.
  package var orpoWeight: Double { orpoAlpha ?? beta ?? 0.1 }

  /// Temperature inside the sigmoid.
  package var orpoTemperature: Double { orpoBeta }

  /// The limits as the data pipeline takes them.
  package var truncation: TokenTruncation {
    TokenTruncation(maxLength: maxLength, maxPromptLength: maxPromptLength, mode: truncationMode)
  }

  /// Parts of a step that are added up in the same order on any number of ranks; nil without `reproducible`.
  package var parts: Int? { reproducible ? reproducibleParts : nil }

  /// Pairs of one optimizer step over all ranks.
  package func globalBatch(worldSize: Int) -> Int { perDeviceTrainBatchSize * gradientAccumulationSteps * worldSize }

  /// Optimizer steps of one pass over `pairs`; a short last batch is a step.
  package func stepsPerEpoch(pairs: Int, worldSize: Int) -> Int {
    let batch = globalBatch(worldSize: worldSize)
    return max(1, pairs / batch + (pairs % batch > 0 ? 1 : 0))
  }

  /// Optimizer steps of the run (transformers' `set_initial_training_values`).
  package func totalSteps(pairs: Int, worldSize: Int) -> Int {
    if maxSteps > 0 { return maxSteps }
    return Int((numTrainEpochs * Double(stepsPerEpoch(pairs: pairs, worldSize: worldSize))).rounded(.up))
  }

  /// Steps of warm-up in a run of `total`: `warmup_steps` where given, else `warmup_ratio`, rounded up.
  package func warmupSteps(total: Int) -> Int {
    warmupSteps == .steps(0) ? StepInterval.share(warmupRatio).steps(of: total) : warmupSteps.steps(of: total)
  }

  package func loggingInterval(total: Int) -> Int { max(1, loggingSteps.steps(of: total)) }
  /// nil: never during training.
  package func evalInterval(total: Int) -> Int? { evalSteps.map { max(1, $0.steps(of: total)) } }
  /// nil: never before the end.
  package func saveInterval(total: Int) -> Int? { saveSteps.map { max(1, $0.steps(of: total)) } }

  /// The schedule of a run of `totalSteps`.
  package func learningRateSchedule(totalSteps: Int) -> LearningRateSchedule {
    let warmup = warmupSteps(total: totalSteps)
    let floor = lrSchedulerKwargs.minLR.map { learningRate > 0 ? $0 / learningRate : 0 }
    return LearningRateSchedule(
      kind: lrSchedulerType, peak: learningRate, warmupSteps: warmup, totalSteps: totalSteps,
      minimumShare: floor ?? lrSchedulerKwargs.minLRRate ?? 0, timescale: lrSchedulerKwargs.timescale)
  }
}
