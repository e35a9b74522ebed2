/// One key: its name and how its value goes into and comes out of the configuration.
struct ConfigurationKey: Sendable {
  let name: String
  /// The whole value is one text: on the command line it is then taken as it stands.
  let isText: Bool
  let read: @Sendable (YAMLValue, inout TrainingConfiguration) throws(ValueProblem) -> Void
  let write: @Sendable (TrainingConfiguration) -> String

  init<Value: ConfigurationValue>(
    _ name: String, _ property: any WritableKeyPath<TrainingConfiguration, Value> & Sendable
  ) {
    self.name = name
    isText = Value.self == String.self
    read = { (value: YAMLValue, configuration: inout TrainingConfiguration) throws(ValueProblem) in
      configuration[keyPath: property] = try Value(value)
    }
    write = { $0[keyPath: property].yaml }
  }
}

extension TrainingConfiguration {
  /// Every key, in the order `resolvedYAML` writes them.
  static let keys: [ConfigurationKey] = [
    ConfigurationKey("model_name_or_path", \.modelNameOrPath),
    ConfigurationKey("train_file", \.trainFile),
    ConfigurationKey("eval_file", \.evalFile),
    ConfigurationKey("eval_split", \.evalSplit),
    ConfigurationKey("output_dir", \.outputDir),
    ConfigurationKey("strict_data", \.strictData),
    ConfigurationKey("per_device_train_batch_size", \.perDeviceTrainBatchSize),
    ConfigurationKey("per_device_eval_batch_size", \.perDeviceEvalBatchSize),
    ConfigurationKey("gradient_accumulation_steps", \.gradientAccumulationSteps),
    ConfigurationKey("rows_per_micro_batch", \.rowsPerMicroBatch),
    ConfigurationKey("bf16", \.bf16),
    ConfigurationKey("gradient_checkpointing", \.gradientCheckpointing),
    ConfigurationKey("threads_per_rank", \.threadsPerRank),
    ConfigurationKey("zero_stage", \.zeroStage),
    ConfigurationKey("wire_dtype", \.wireDType),
    ConfigurationKey("reproducible", \.reproducible),
    ConfigurationKey("reproducible_parts", \.reproducibleParts),
    ConfigurationKey("learning_rate", \.learningRate),
    ConfigurationKey("lr_scheduler_type", \.lrSchedulerType),
    ConfigurationKey("lr_scheduler_kwargs", \.lrSchedulerKwargs),
    ConfigurationKey("warmup_steps", \.warmupSteps),
    ConfigurationKey("warmup_ratio", \.warmupRatio),
    ConfigurationKey("weight_decay", \.weightDecay),
    ConfigurationKey("adam_beta1", \.adamBeta1),
    ConfigurationKey("adam_beta2", \.adamBeta2),
    ConfigurationKey("adam_epsilon", \.adamEpsilon),
    ConfigurationKey("max_grad_norm", \.maxGradNorm),
    ConfigurationKey("num_train_epochs", \.numTrainEpochs),
    ConfigurationKey("max_steps", \.maxSteps),
    ConfigurationKey("max_length", \.maxLength),
    ConfigurationKey("max_prompt_length", \.maxPromptLength),
    ConfigurationKey("truncation_mode", \.truncationMode),
    ConfigurationKey("beta", \.beta),
    ConfigurationKey("orpo_alpha", \.orpoAlpha),
    ConfigurationKey("orpo_beta", \.orpoBeta),
    ConfigurationKey("nll_tokens", \.nllTokens),
    ConfigurationKey("loss_normalization", \.lossNormalization),
    ConfigurationKey("shuffle", \.shuffle),
    ConfigurationKey("seed", \.seed),
    ConfigurationKey("logging_steps", \.loggingSteps),
    ConfigurationKey("eval_steps", \.evalSteps),
    ConfigurationKey("eval_on_start", \.evalOnStart),
    ConfigurationKey("save_steps", \.saveSteps),
    ConfigurationKey("save_total_limit", \.saveTotalLimit),
    ConfigurationKey("save_sharded", \.saveSharded),
    ConfigurationKey("report_to", \.reportTo),
    ConfigurationKey("prometheus_file", \.prometheusFile),
    ConfigurationKey("watchdog_seconds", \.watchdogSeconds),
    ConfigurationKey("max_skipped_steps", \.maxSkippedSteps),
    ConfigurationKey("check_ranks_steps", \.checkRanksSteps),
    ConfigurationKey("trace", \.trace),
    ConfigurationKey("trace_steps", \.traceSteps),
  ]

  package static var keyNames: [String] { keys.map(\.name) }

  static let keysByName = Dictionary(uniqueKeysWithValues: keys.map { ($0.name, $0) })
}
