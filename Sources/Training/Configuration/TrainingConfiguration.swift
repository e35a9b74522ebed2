package import DataParallel
package import Packing
package import Preferences

/// Everything a run is told, under TRL's and transformers' key names.
///
/// A property's YAML key is its name in snake case (`TrainingConfiguration+Keys.swift`). Defaults are those of TRL
/// 1.16's `ORPOConfig` and transformers 5.23's `TrainingArguments` where they have the key; the comment says so where
/// ours differs or the key is ours.
package struct TrainingConfiguration: Sendable, Equatable {
  // Model, data, output.

  /// Hugging Face folder or GGUF file. Required.
  package var modelNameOrPath = ""
  /// Files of training rows, in this order. Required for training. Ours: TRL names data sets on a hub.
  package var trainFile: [String] = []
  /// Files of held-out rows. Ours.
  package var evalFile: [String] = []
  /// Share of the training rows held out instead of `eval_file`, 0 to below 1. Ours.
  package var evalSplit = 0.0
  /// Where checkpoints, logs and the final model go.
  package var outputDir = "trainer_output"
  /// Stop at the first bad row instead of leaving it out. Ours.
  package var strictData = false

  // Batches.

  /// Pairs a rank takes into one accumulation step. TRL: 8.
  package var perDeviceTrainBatchSize = 1
  /// Pairs a rank takes into one evaluation batch.
  package var perDeviceEvalBatchSize = 8
  /// Accumulation steps to one optimizer step.
  package var gradientAccumulationSteps = 1
  /// Rows (tokens) of one forward and backward pass, and of a longer pair those whose activations are all kept: bounds
  /// memory, never changes results. Ours.
  package var rowsPerMicroBatch = 1024
  /// Matrix products in bf16, summed in fp32; parameters, norms, softmax, loss and optimizer stay in fp32. TRL: true.
  package var bf16 = BFloat16Products.off
  /// Keep only what enters each layer for backward and compute the rest again: less memory, about a quarter more work.
  package var gradientCheckpointing = false
  /// Threads of a rank; null shares a host's cores among its ranks. Ours.
  package var threadsPerRank: Int?
  /// 1 keeps AdamW's moments of a share of the parameters on each rank, 0 all of them on every rank. Ours.
  package var zeroStage = 1
  /// What gradients are between nodes. Ours.
  package var wireDType = WireDType.fp32
  /// The same bits on any number of ranks and threads: gradients are added up by a tree that depends on the pairs alone.
  /// Ours.
  package var reproducible = false
  /// Parts of a step that this tree adds up; ranks beyond have nothing to do. Ours.
  package var reproducibleParts = 8

  // Optimizer and schedule.

  /// Highest rate of the schedule.
  package var learningRate = 1e-6
  package var lrSchedulerType = LearningRateSchedule.Kind.linear
  /// Settings of single schedules: `min_lr`, `min_lr_rate`, `timescale`.
  package var lrSchedulerKwargs = SchedulerSettings()
  /// Steps of linear warm-up, or a share of the run below 1; 0 leaves it to `warmup_ratio`.
  package var warmupSteps = StepInterval.steps(0)
  /// Warm-up as a share of the run.
  package var warmupRatio = 0.0
  /// Decoupled; never applied to biases and norm weights.
  package var weightDecay = 0.0
  package var adamBeta1 = 0.9
  package var adamBeta2 = 0.999
  package var adamEpsilon = 1e-8
  /// Global norm to which gradients are clipped; 0 never clips.
  package var maxGradNorm = 1.0
  /// May be fractional; `max_steps` wins.
  package var numTrainEpochs = 3.0
  /// Optimizer steps of the run; -1 leaves it to `num_train_epochs`.
  package var maxSteps = -1

  // Sequences.

  /// Token limit of prompt plus completion.
  package var maxLength = 1024
  /// Token limit of the prompt, applied only where a pair does not fit `max_length`. Unset: 512, at most half of
  /// `max_length`.
  package var maxPromptLength: Int?
  /// Which end of an over-long prompt is kept.
  package var truncationMode = TruncationMode.keepEnd

  // Objective.

  /// Weight of the odds-ratio term, the paper's lambda; null when `orpo_alpha` gives it.
  package var beta: Double?
  /// The same weight under the name the Hugging Face course uses.
  package var orpoAlpha: Double?
  /// Temperature inside the sigmoid; 1 is the paper and TRL. Ours.
  package var orpoBeta = 1.0
  /// Which tokens of the chosen sequence the supervised term covers. Ours.
  package var nllTokens = NLLTokens.all
  /// What "mean" means when pairs differ in length. Ours.
  package var lossNormalization = LossNormalization.pair

  // Order, logs, checkpoints.

  /// A new order every epoch; false keeps file order. Ours.
  package var shuffle = true
  /// Of the order of pairs.
  package var seed = 42
  /// Optimizer steps between logs.
  package var loggingSteps = StepInterval.steps(10)
  /// Optimizer steps between evaluations; null evaluates after training only.
  package var evalSteps: StepInterval?
  /// Evaluate before the first step as well.
  package var evalOnStart = false
  /// Optimizer steps between checkpoints; null saves none before the end.
  package var saveSteps: StepInterval? = .steps(500)
  /// Newest checkpoints kept; null keeps all.
  package var saveTotalLimit: Int?
  /// Every rank writes its own share of AdamW's moments, to its host's disk where `output_dir` is not shared. Ours.
  package var saveSharded = false
  /// Metric writers besides `metrics.jsonl` and the console.
  package var reportTo = Reports()
  /// Text file for the textfile collector of Prometheus' node_exporter; null writes none. Ours.
  package var prometheusFile: String?
  /// Seconds after which ranks that do not get on end the job; 0 for never. Ours.
  package var watchdogSeconds = 1800
  /// Skipped steps in a row that end the run. Ours.
  package var maxSkippedSteps = 10
  /// Steps between two comparisons of all ranks' parameters; 0 for none but those before a checkpoint. Ours.
  package var checkRanksSteps = 100
  /// Write `output_dir/trace.json`, a timeline of some steps on all ranks. Ours.
  package var trace = false
  /// How many steps the timeline has; they begin after the first step of the run. Ours.
  package var traceSteps = 3

  package init() {}
}

extension TrainingConfiguration {
  /// `lr_scheduler_kwargs`, as the functions of transformers' optimization.py take them.
  package struct SchedulerSettings: Sendable, Equatable {
    /// Lowest rate of `cosine_with_min_lr`.
    package var minLR: Double?
    /// The same as a share of `learning_rate`.
    package var minLRRate: Double?
    /// Of `inverse_sqrt`; unset: the warm-up steps, or 10000.
    package var timescale: Int?

    package init(minLR: Double? = nil, minLRRate: Double? = nil, timescale: Int? = nil) {
      self.minLR = minLR
      self.minLRRate = minLRRate
      self.timescale = timescale
    }
  }

  /// `report_to`.
  package struct Reports: Sendable, Equatable {
    package var tensorBoard = false

    package init(tensorBoard: Bool = false) { self.tensorBoard = tensorBoard }
  }
}

extension TrainingConfiguration {
  /// `bf16`.
  package enum BFloat16Products: String, Sendable {
    case off = "false"
    /// An error where a processor does not multiply bf16 by itself.
    case on = "true"
    /// fp32 there, with a note.
    case auto
  }
}

extension TrainingConfiguration.BFloat16Products: ConfigurationValue {
  init(_ value: YAMLValue) throws(ValueProblem) {
    if value.plain == "auto" {
      self = .auto
      return
    }
    do { self = try Bool(value) ? .on : .off } catch {
      throw ValueProblem(expected: "true, false or auto", found: value)
    }
  }

  var yaml: String { rawValue }
}

extension LearningRateSchedule.Kind: ConfigurationValue {}
extension TruncationMode: ConfigurationValue {}
extension NLLTokens: ConfigurationValue {}
extension LossNormalization: ConfigurationValue {}
extension WireDType: ConfigurationValue {}

extension TrainingConfiguration.SchedulerSettings: ConfigurationValue {
  init(_ value: YAMLValue) throws(ValueProblem) {
    self.init()
    if value.isNull { return }
    guard case .mapping(let members) = value.content else {
      throw ValueProblem(expected: "a mapping such as {min_lr_rate: 0.1}", found: value)
    }
    for (key, value) in members {
      do throws(ValueProblem) {
        switch key {
        case "min_lr": minLR = try Double?(value)
        case "min_lr_rate": minLRRate = try Double?(value)
        case "timescale": timescale = try Int?(value)
        default: throw ValueProblem("not supported; known are min_lr, min_lr_rate, timescale")
        }
      } catch { throw ValueProblem("\(key): \(error.message)") }
    }
  }

  var yaml: String {
    let members = [
      minLR.map { "min_lr: \($0.yaml)" }, minLRRate.map { "min_lr_rate: \($0.yaml)" },
      timescale.map { "timescale: \($0.yaml)" },
    ].compactMap(\.self)
    return members.isEmpty ? "null" : "{" + members.joined(separator: ", ") + "}"
  }
}

extension TrainingConfiguration.Reports: ConfigurationValue {
  init(_ value: YAMLValue) throws(ValueProblem) {
    self.init()
    for name in try [String](value) {
      switch name {
      case "tensorboard": tensorBoard = true
      case "none": break
      default: throw ValueProblem("expected tensorboard, none or a list of them, found '\(name)'")
      }
    }
  }

  var yaml: String { tensorBoard ? "tensorboard" : "none" }
}
