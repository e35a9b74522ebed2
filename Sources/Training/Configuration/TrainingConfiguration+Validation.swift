import DataParallel

extension TrainingConfiguration {
  /// Every value out of range, every pair of keys that exclude each other, every file that `purpose` needs and nobody
  /// named.
  func problems(settings: [Setting], purpose: Purpose) -> [ConfigurationError.Problem] {
    var check = Checks(settings: settings)

    if purpose != .bench {
      check.require("model_name_or_path", !modelNameOrPath.isEmpty, "a Hugging Face folder or a GGUF file")
    }
    switch purpose {
    case .bench, .plan: break
    case .train: check.require("train_file", !trainFile.isEmpty, "one or more files of preference pairs")
    case .data:
      check.require("train_file", !trainFile.isEmpty || !evalFile.isEmpty, "one or more files of preference pairs")
    case .eval:
      let split = evalSplit > 0 && !trainFile.isEmpty
      check.require("eval_file", !evalFile.isEmpty || split, "files of held-out pairs, or eval_split with train_file")
    }
    if evalSplit > 0, !evalFile.isEmpty { check.fail("eval_split", "eval_file is given too; use one of them") }

    check.range("eval_split", evalSplit, "0 or more and below 1", evalSplit >= 0 && evalSplit < 1)
    check.positive("per_device_train_batch_size", perDeviceTrainBatchSize)
    check.positive("per_device_eval_batch_size", perDeviceEvalBatchSize)
    check.positive("gradient_accumulation_steps", gradientAccumulationSteps)
    check.positive("rows_per_micro_batch", rowsPerMicroBatch)
    if let threadsPerRank { check.positive("threads_per_rank", threadsPerRank) }
    check.range(
      "zero_stage", zeroStage, "0 or 1 (gradients and parameters are whole on every rank)",
      zeroStage == 0 || zeroStage == 1)

    check.range(
      "reproducible_parts", reproducibleParts, "between 1 and 4096", (1...4096).contains(reproducibleParts))
    if reproducible, wireDType != .fp32 {
      check.fail(
        "wire_dtype",
        "what is rounded on the wire depends on the ranks, and reproducible: true on nothing but the pairs; "
          + "use one of them")
    }

    check.notNegative("learning_rate", learningRate)
    check.range("warmup_ratio", warmupRatio, "between 0 and 1", (0...1).contains(warmupRatio))
    check.notNegative("weight_decay", weightDecay)
    check.range("adam_beta1", adamBeta1, "0 or more and below 1", adamBeta1 >= 0 && adamBeta1 < 1)
    check.range("adam_beta2", adamBeta2, "0 or more and below 1", adamBeta2 >= 0 && adamBeta2 < 1)
    check.range("adam_epsilon", adamEpsilon, "above 0", adamEpsilon > 0)
    check.notNegative("max_grad_norm", maxGradNorm)
    check.range("num_train_epochs", numTrainEpochs, "above 0", numTrainEpochs > 0)
    check.range("max_steps", maxSteps, "-1 (num_train_epochs decides) or at least 1", maxSteps == -1 || maxSteps >= 1)
    checkSchedulerSettings(&check)

    check.range("max_length", maxLength, "at least 2", maxLength > 1)
    if let maxPromptLength, maxLength > 1 {
      check.range(
        "max_prompt_length", maxPromptLength, "between 1 and max_length - 1 (\(maxLength - 1))",
        maxPromptLength >= 1 && maxPromptLength < maxLength)
    }

    if beta != nil, orpoAlpha != nil {
      check.fail("orpo_alpha", "beta is given too; both weigh the odds-ratio term, use one of them")
    }
    if let beta { check.notNegative("beta", beta) }
    if let orpoAlpha { check.notNegative("orpo_alpha", orpoAlpha) }
    check.range("orpo_beta", orpoBeta, "above 0", orpoBeta > 0)

    check.range("seed", seed, "0 or more", seed >= 0)
    for (name, interval) in [("logging_steps", loggingSteps), ("eval_steps", evalSteps), ("save_steps", saveSteps)] {
      guard interval == .steps(0) else { continue }
      check.fail(
        name, "must be at least 1, or a share of the run" + (name == "logging_steps" ? "" : ", or null for never"))
    }
    if let saveTotalLimit { check.positive("save_total_limit", saveTotalLimit) }
    if let prometheusFile {
      check.range(
        "prometheus_file", prometheusFile, "a path that ends in .prom: node_exporter reads no other files",
        prometheusFile.hasSuffix(".prom"))
    }
    check.range("watchdog_seconds", watchdogSeconds, "0 (never) or more", watchdogSeconds >= 0)
    check.positive("max_skipped_steps", maxSkippedSteps)
    check.range("check_ranks_steps", checkRanksSteps, "0 (never) or more", checkRanksSteps >= 0)
    check.positive("trace_steps", traceSteps)
    for name in ["eval_strategy", "evaluation_strategy"] { checkEvaluationStrategy(name, &check) }
    return check.problems
  }

  private func checkSchedulerSettings(_ check: inout Checks) {
    let settings = lrSchedulerKwargs
    let name = "lr_scheduler_kwargs"
    if lrSchedulerType == .cosineWithMinLR {
      switch (settings.minLR, settings.minLRRate) {
      case (nil, nil):
        check.fail(name, "lr_scheduler_type cosine_with_min_lr needs {min_lr_rate: ...} or {min_lr: ...}")
      case (.some, .some): check.fail(name, "min_lr and min_lr_rate are both given; use one of them")
      case (let rate?, nil):
        check.range(name, part: "min_lr", rate, "between 0 and learning_rate", rate >= 0 && rate <= learningRate)
      case (nil, let share?): check.range(name, part: "min_lr_rate", share, "between 0 and 1", (0...1).contains(share))
      }
    } else if settings.minLR != nil || settings.minLRRate != nil {
      check.fail(name, "min_lr and min_lr_rate belong to lr_scheduler_type cosine_with_min_lr")
    }
    if let timescale = settings.timescale {
      if lrSchedulerType == .inverseSqrt {
        check.range(name, part: "timescale", timescale, "at least 1", timescale >= 1)
      } else {
        check.fail(name, "timescale belongs to lr_scheduler_type inverse_sqrt")
      }
    }
  }

  /// `eval_strategy` has no property of its own: it must say what `eval_steps` and the files say already.
  private func checkEvaluationStrategy(_ name: String, _ check: inout Checks) {
    guard let strategy = check.settings.last(where: { $0.key == name })?.value.text else { return }
    if strategy == "steps" {
      if evalSteps == nil { check.fail(name, "steps needs eval_steps") }
    } else if !evalFile.isEmpty || evalSplit > 0 {
      check.fail(name, "held-out pairs are given and will be evaluated; remove this key or the pairs")
    }
  }
}

/// Collects problems, each with the place its key was given.
private struct Checks {
  let settings: [Setting]
  var problems: [ConfigurationError.Problem] = []

  init(settings: [Setting]) { self.settings = settings }

  mutating func fail(_ key: String, _ message: String) {
    problems.append(.init(location: settings.last { $0.key == key }?.location, message: "\(key): \(message)"))
  }

  /// A key that must be given; one that was given but not understood is reported elsewhere.
  mutating func require(_ key: String, _ isGiven: Bool, _ expected: String) {
    guard !isGiven, settings.last(where: { $0.key == key })?.value.isNull ?? true else { return }
    fail(key, "missing; give \(expected)")
  }

  mutating func range(
    _ key: String, part: String? = nil, _ value: some CustomStringConvertible, _ allowed: String, _ holds: Bool
  ) {
    if !holds { fail(key, (part.map { "\($0) " } ?? "") + "must be \(allowed), found \(value)") }
  }

  mutating func positive(_ key: String, _ value: Int) { range(key, value, "at least 1", value >= 1) }

  mutating func notNegative(_ key: String, _ value: Double) { range(key, value, "0 or more", value >= 0) }
}
