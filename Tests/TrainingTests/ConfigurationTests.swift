import Foundation
import Preferences
import Testing
import Training

private let minimum = "model_name_or_path: m\ntrain_file: t.jsonl\n"

private func configuration(
  _ lines: String = "", _ overrides: String..., for purpose: TrainingConfiguration.Purpose = .train
) throws -> TrainingConfiguration {
  try TrainingConfiguration(yaml: minimum + lines, location: "run.yaml", overrides: overrides, for: purpose)
}

private func messages(
  _ yaml: String, _ overrides: [String] = [], for purpose: TrainingConfiguration.Purpose = .train
) -> [String] {
  do {
    _ = try TrainingConfiguration(yaml: yaml, location: "run.yaml", overrides: overrides, for: purpose)
    return []
  } catch { return error.problems.map(\.description) }
}

/// A key, a value for it that is not its default, and the whole line as `resolvedYAML` writes it.
struct KeyCase: Sendable, CustomTestStringConvertible {
  var key: String
  var written: String
  var resolved: String
  /// Other lines this key cannot be given without.
  var besides = ""
  var testDescription: String { key }

  static let all = [
    KeyCase(key: "model_name_or_path", written: "models/x y", resolved: "\"models/x y\""),
    KeyCase(key: "train_file", written: "[a.jsonl, b.json.gz]", resolved: "[a.jsonl, b.json.gz]"),
    KeyCase(key: "eval_file", written: "[\"e: f.jsonl\"]", resolved: "\"e: f.jsonl\""),
    KeyCase(key: "eval_split", written: "5e-2", resolved: "0.05"),
    KeyCase(key: "output_dir", written: "out/run-1", resolved: "out/run-1"),
    KeyCase(key: "strict_data", written: "yes", resolved: "true"),
    KeyCase(key: "per_device_train_batch_size", written: "4", resolved: "4"),
    KeyCase(key: "per_device_eval_batch_size", written: "2", resolved: "2"),
    KeyCase(key: "gradient_accumulation_steps", written: "8", resolved: "8"),
    KeyCase(key: "rows_per_micro_batch", written: "4_096", resolved: "4096"),
    KeyCase(key: "bf16", written: "yes", resolved: "true"),
    KeyCase(key: "gradient_checkpointing", written: "on", resolved: "true"),
    KeyCase(key: "threads_per_rank", written: "3", resolved: "3"),
    KeyCase(key: "zero_stage", written: "0", resolved: "0"),
    KeyCase(key: "wire_dtype", written: "bf16", resolved: "bf16"),
    KeyCase(key: "reproducible", written: "true", resolved: "true"),
    KeyCase(key: "reproducible_parts", written: "24", resolved: "24"),
    KeyCase(key: "learning_rate", written: "1e-5", resolved: "1e-05"),
    KeyCase(key: "lr_scheduler_type", written: "cosine", resolved: "cosine"),
    KeyCase(
      key: "lr_scheduler_kwargs", written: "{min_lr_rate: 0.1}", resolved: "{min_lr_rate: 0.1}",
      besides: "lr_scheduler_type: cosine_with_min_lr\n"),
    KeyCase(key: "warmup_steps", written: "0.25", resolved: "0.25"),
    KeyCase(key: "warmup_ratio", written: "0.1", resolved: "0.1"),
    KeyCase(key: "weight_decay", written: "1", resolved: "1.0"),
    KeyCase(key: "adam_beta1", written: ".8", resolved: "0.8"),
    KeyCase(key: "adam_beta2", written: "0.95", resolved: "0.95"),
    KeyCase(key: "adam_epsilon", written: "1E-6", resolved: "1e-06"),
    KeyCase(key: "max_grad_norm", written: "0", resolved: "0.0"),
    KeyCase(key: "num_train_epochs", written: "0.5", resolved: "0.5"),
    KeyCase(key: "max_steps", written: "1e3", resolved: "1000"),
    KeyCase(key: "max_length", written: "2048", resolved: "2048"),
    KeyCase(key: "max_prompt_length", written: "300", resolved: "300"),
    KeyCase(key: "truncation_mode", written: "keep_start", resolved: "keep_start"),
    KeyCase(key: "beta", written: "0", resolved: "0.0"),
    KeyCase(key: "orpo_alpha", written: "1.0", resolved: "1.0"),
    KeyCase(key: "orpo_beta", written: "0.1", resolved: "0.1"),
    KeyCase(key: "nll_tokens", written: "completion", resolved: "completion"),
    KeyCase(key: "loss_normalization", written: "microbatch", resolved: "microbatch"),
    KeyCase(key: "shuffle", written: "False", resolved: "false"),
    KeyCase(key: "seed", written: "7", resolved: "7"),
    KeyCase(key: "logging_steps", written: "1", resolved: "1"),
    KeyCase(key: "eval_steps", written: "50", resolved: "50"),
    KeyCase(key: "eval_on_start", written: "true", resolved: "true"),
    KeyCase(key: "save_steps", written: "null", resolved: "null"),
    KeyCase(key: "save_total_limit", written: "2", resolved: "2"),
    KeyCase(key: "save_sharded", written: "true", resolved: "true"),
    KeyCase(key: "report_to", written: "[tensorboard]", resolved: "tensorboard"),
    KeyCase(key: "prometheus_file", written: "/var/lib/node/run.prom", resolved: "/var/lib/node/run.prom"),
    KeyCase(key: "watchdog_seconds", written: "60", resolved: "60"),
    KeyCase(key: "max_skipped_steps", written: "3", resolved: "3"),
    KeyCase(key: "check_ranks_steps", written: "0", resolved: "0"),
    KeyCase(key: "trace", written: "true", resolved: "true"),
    KeyCase(key: "trace_steps", written: "5", resolved: "5"),
  ]
}

@Suite struct ConfigurationTests {
  @Test func everyKeyHasACase() {
    #expect(KeyCase.all.map(\.key) == TrainingConfiguration.keyNames)
  }

  @Test(arguments: KeyCase.all)
  func aKeyIsReadFromFileAndCommandLineAndWrittenBack(_ item: KeyCase) throws {
    var base = item.besides
    for line in ["model_name_or_path: m\n", "train_file: t.jsonl\n"] where !line.hasPrefix(item.key + ":") {
      base += line
    }
    let fromFile = try TrainingConfiguration(yaml: base + "\(item.key): \(item.written)\n", location: "run.yaml")
    let override = "\(item.key)=\(item.written)"
    let fromCommandLine = try TrainingConfiguration(yaml: base, location: "run.yaml", overrides: [override])
    #expect(fromFile == fromCommandLine)
    #expect(fromFile.resolvedYAML.contains("\n\(item.key): \(item.resolved)\n"))
    #expect(try TrainingConfiguration(yaml: fromFile.resolvedYAML, location: "resolved") == fromFile)
    let withoutIt = try configuration()
    #expect(fromFile != withoutIt)
    #expect((fromFile.digest == withoutIt.digest) == (item.key == "threads_per_rank"))
  }

  @Test func defaultsAreThoseOfTRL() throws {
    let defaults = try configuration()
    #expect(
      defaults.resolvedYAML == """
        # Every key with the value this run used.
        model_name_or_path: m
        train_file: t.jsonl
        eval_file: null
        eval_split: 0.0
        output_dir: trainer_output
        strict_data: false
        per_device_train_batch_size: 1
        per_device_eval_batch_size: 8
        gradient_accumulation_steps: 1
        rows_per_micro_batch: 1024
        bf16: false
        gradient_checkpointing: false
        threads_per_rank: null
        zero_stage: 1
        wire_dtype: fp32
        reproducible: false
        reproducible_parts: 8
        learning_rate: 1e-06
        lr_scheduler_type: linear
        lr_scheduler_kwargs: null
        warmup_steps: 0
        warmup_ratio: 0.0
        weight_decay: 0.0
        adam_beta1: 0.9
        adam_beta2: 0.999
        adam_epsilon: 1e-08
        max_grad_norm: 1.0
        num_train_epochs: 3.0
        max_steps: -1
        max_length: 1024
        max_prompt_length: 512
        truncation_mode: keep_end
        beta: 0.1
        orpo_alpha: null
        orpo_beta: 1.0
        nll_tokens: all
        loss_normalization: pair
        shuffle: true
        seed: 42
        logging_steps: 10
        eval_steps: null
        eval_on_start: false
        save_steps: 500
        save_total_limit: null
        save_sharded: false
        report_to: none
        prometheus_file: null
        watchdog_seconds: 1800
        max_skipped_steps: 10
        check_ranks_steps: 100
        trace: false
        trace_steps: 3

        """)
  }

  @Test func theTwoNamesOfTheWeight() throws {
    #expect(try configuration().orpoWeight == 0.1)
    #expect(try configuration("beta: 0\n").orpoWeight == 0)
    let course = try configuration("orpo_alpha: 1.0\norpo_beta: 0.1\n")
    #expect(course.orpoWeight == 1 && course.orpoTemperature == 0.1 && course.beta == nil)
    #expect(try configuration("beta: 0.2\n", "beta=null", "orpo_alpha=0.3").orpoWeight == 0.3)
    #expect(
      messages(minimum + "beta: 0.1\n", ["orpo_alpha=1"]) == [
        "command line: orpo_alpha: beta is given too; both weigh the odds-ratio term, use one of them"
      ])
  }

  @Test func overridesWinAndTheLastOneCounts() throws {
    let result = try configuration(
      "seed: 1\n", "seed=2", "seed=3", "train_file=[a, b]", "output_dir=out: [x", "eval_file=e.jsonl")
    #expect(result.seed == 3)
    #expect(result.trainFile == ["a", "b"])
    #expect(result.outputDir == "out: [x")
    #expect(result.evalFile == ["e.jsonl"])
  }

  @Test func homeIsExpandedAndOtherPathsStay() throws {
    let home = try #require(ProcessInfo.processInfo.environment["HOME"])
    let result = try configuration("output_dir: ~/out\neval_file: [~/a, b/~/c, ../d]\n", "model_name_or_path=~/m")
    #expect(result.outputDir == home + "/out")
    #expect(result.evalFile == [home + "/a", "b/~/c", "../d"])
    #expect(result.modelNameOrPath == home + "/m")
  }

  @Test func theDefaultPromptLimitLeavesRoomForACompletion() throws {
    #expect(try configuration("max_length: 2048\n").maxPromptLength == 512)
    #expect(try configuration("max_length: 512\n").maxPromptLength == 256)
    #expect(try configuration("max_length: 2\n").maxPromptLength == 1)
    let truncation = try configuration("max_length: 300\ntruncation_mode: keep_start\n").truncation
    #expect(truncation == TokenTruncation(maxLength: 300, maxPromptLength: 150, mode: .keepStart))
  }

  @Test(arguments: [
    ("learnign_rate: 1", "run.yaml:3: learnign_rate: unknown key; the nearest known key is learning_rate"),
    ("max-steps: 1", "run.yaml:3: max-steps: unknown key; the nearest known key is max_steps"),
    ("orpo_bata: 1", "run.yaml:3: orpo_bata: unknown key; the nearest known key is orpo_beta"),
    ("learning_rate: fast", "run.yaml:3: learning_rate: expected a number, found 'fast'"),
    ("learning_rate: \"1e-5\"", "run.yaml:3: learning_rate: expected a number, found the quoted text \"1e-5\""),
    ("learning_rate: .inf", "run.yaml:3: learning_rate: expected a number, found '.inf'"),
    ("learning_rate: 0x10", "run.yaml:3: learning_rate: expected a number, found '0x10'"),
    ("learning_rate:", "run.yaml:3: learning_rate: expected a number, found null"),
    ("max_length: 10.5", "run.yaml:3: max_length: expected a whole number, found '10.5'"),
    ("seed: 99999999999999999999", "run.yaml:3: seed: expected a whole number, found '99999999999999999999'"),
    ("shuffle: 1", "run.yaml:3: shuffle: expected true or false, found '1'"),
    ("output_dir: [a]", "run.yaml:3: output_dir: expected a text, found a list of 1"),
    ("eval_file: {a: b}", "run.yaml:3: eval_file: expected a text, found a mapping"),
    ("nll_tokens: most", "run.yaml:3: nll_tokens: expected one of all, completion, found 'most'"),
    (
      "logging_steps: 1.5",
      "run.yaml:3: logging_steps: expected a whole number of steps, or a share of the run between 0 and 1, found '1.5'"
    ),
    ("report_to: wandb", "run.yaml:3: report_to: expected tensorboard, none or a list of them, found 'wandb'"),
    (
      "lr_scheduler_kwargs: {num_cycles: 2}",
      "run.yaml:3: lr_scheduler_kwargs: num_cycles: not supported; known are min_lr, min_lr_rate, timescale"
    ),
    ("bf16: maybe", "run.yaml:3: bf16: expected true, false or auto, found 'maybe'"),
    ("fp16: true", "run.yaml:3: fp16: 'true' is not supported by this version, only false; bf16 is supported"),
    (
      "optim: adafactor",
      "run.yaml:3: optim: 'adafactor' is not supported by this version, only adamw_torch or adamw_torch_fused"
    ),
    (
      "dataset_name: a/b",
      "run.yaml:3: dataset_name: 'a/b' is not supported by this version; name files with train_file and eval_file"
    ),
  ])
  func aWrongValueIsNamedWithItsPlace(_ line: String, message: String) {
    #expect(messages(minimum + line + "\n") == [message])
  }

  @Test(arguments: [
    ("eval_split", "1"), ("eval_split", "-0.1"), ("per_device_train_batch_size", "0"),
    ("per_device_eval_batch_size", "-1"),
    ("gradient_accumulation_steps", "0"), ("rows_per_micro_batch", "0"), ("threads_per_rank", "0"),
    ("learning_rate", "-1e-9"),
    ("warmup_ratio", "1.1"), ("weight_decay", "-1"), ("adam_beta1", "1"), ("adam_beta2", "-0.1"), ("adam_epsilon", "0"),
    ("max_grad_norm", "-1"), ("num_train_epochs", "0"), ("max_steps", "0"), ("max_length", "1"),
    ("max_prompt_length", "1024"),
    ("beta", "-1"), ("orpo_alpha", "-1"), ("orpo_beta", "0"), ("seed", "-1"), ("logging_steps", "0"),
    ("eval_steps", "0"),
    ("save_steps", "0"), ("save_total_limit", "0"),
  ])
  func aValueOutOfRangeIsRefused(_ key: String, value: String) {
    let found = messages(minimum + "\(key): \(value)\n")
    #expect(found.count == 1)
    #expect(found.first?.hasPrefix("run.yaml:3: \(key): must be ") == true)
  }

  @Test func allProblemsAreReportedAtOnce() throws {
    let yaml = "train_file: t\n\nmax_length: 1\nbata: 2\nbeta: x\n"
    let error = #expect(throws: ConfigurationError.self) {
      try TrainingConfiguration(yaml: yaml, location: "run.yaml", overrides: ["seed=-1", "nonsense", "=3"])
    }
    #expect(
      error?.description == """
        7 problems in the configuration:
          command line: 'nonsense': expected key=value
          command line: '=3': expected key=value
          run.yaml:4: bata: unknown key; the nearest known key is beta
          run.yaml:5: beta: expected a number, found 'x'
          model_name_or_path: missing; give a Hugging Face folder or a GGUF file
          run.yaml:3: max_length: must be at least 2, found 1
          command line: seed: must be 0 or more, found -1
        """)
  }

  @Test(arguments: [
    ("a: [1\nb: 2\n", "run.yaml:2: not valid YAML"), ("a: 1\na: 2\n", "run.yaml:1: given more than once: a"),
    ("- a\n", "run.yaml: expected lines of key: value, found a list of 1"), ("\tb: 1", "run.yaml:1: not valid YAML"),
  ])
  func whatIsNotAMappingIsRefused(_ yaml: String, message: String) {
    #expect(messages(yaml).first?.hasPrefix(message) == true)
  }

  @Test func aMissingFileIsNamed() {
    #expect {
      try TrainingConfiguration(file: "no/such.yaml")
    } throws: { "\($0)" == "no/such.yaml: no such file; --config takes a YAML file" }
  }

  @Test func eachPurposeNeedsItsFiles() {
    let model = "model_name_or_path: m\n"
    #expect(messages(model) == ["train_file: missing; give one or more files of preference pairs"])
    #expect(messages(model, for: .data) == ["train_file: missing; give one or more files of preference pairs"])
    #expect(messages(model + "eval_file: e\n", for: .eval) == [])
    #expect(messages(minimum, ["eval_split=0.1"], for: .eval) == [])
    #expect(
      messages(minimum, for: .eval) == [
        "eval_file: missing; give files of held-out pairs, or eval_split with train_file"
      ])
    #expect(
      messages(minimum + "eval_split: 0.1\neval_file: e\n") == [
        "run.yaml:3: eval_split: eval_file is given too; use one of them"
      ])
  }

  @Test func keysOfTRLThatSayWhatHappensAnywayAreAllowed() throws {
    let lines = """
      bf16: False
      fp16: no
      optim: adamw_torch
      remove_unused_columns: false
      label_smoothing_factor: 0.0
      deepspeed: null
      eval_strategy: steps
      eval_steps: 0.1
      eval_file: e.jsonl

      """
    #expect(try configuration(lines) == configuration("eval_steps: 0.1\neval_file: e.jsonl\n"))
    #expect(messages(minimum + "eval_strategy: steps\n") == ["run.yaml:3: eval_strategy: steps needs eval_steps"])
    #expect(messages(minimum + "eval_strategy: no\n") == [])
    #expect(messages(minimum + "eval_strategy: no\neval_file: e\n").count == 1)
  }

  @Test(arguments: [
    (
      "lr_scheduler_type: cosine_with_min_lr",
      "lr_scheduler_type cosine_with_min_lr needs {min_lr_rate: ...} or {min_lr: ...}"
    ),
    ("lr_scheduler_kwargs: {min_lr: 0}", "min_lr and min_lr_rate belong to lr_scheduler_type cosine_with_min_lr"),
    ("lr_scheduler_kwargs: {timescale: 9}", "timescale belongs to lr_scheduler_type inverse_sqrt"),
    (
      "lr_scheduler_type: cosine_with_min_lr\nlr_scheduler_kwargs: {min_lr: 0, min_lr_rate: 0}",
      "min_lr and min_lr_rate are both given; use one of them"
    ),
    (
      "lr_scheduler_type: cosine_with_min_lr\nlr_scheduler_kwargs: {min_lr: 1}",
      "min_lr must be between 0 and learning_rate, found 1.0"
    ),
  ])
  func scheduleSettingsMustFitTheSchedule(_ lines: String, message: String) {
    let found = messages(minimum + lines + "\n")
    #expect(found.count == 1)
    #expect(found.first?.hasSuffix("lr_scheduler_kwargs: \(message)") == true)
  }

  @Test func textsOfEveryKindReadBackEqual() throws {
    for text in [
      "a b", "#x", "null", "-x", "a: b", "q\"\\", "tab\t", "é\u{2028}", "'", "1e5", "a,b]", "*a", "%", "@",
    ] {
      var configuration = try configuration()
      configuration.outputDir = text
      configuration.trainFile = [text, "b"]
      #expect(try TrainingConfiguration(yaml: configuration.resolvedYAML, location: "") == configuration)
    }
  }

  @Test func ranksToldDifferentThingsCanSayWhich() throws {
    let a = try configuration("", "seed=1", "threads_per_rank=1")
    let b = try configuration("", "seed=2", "threads_per_rank=2")
    #expect(a.digest != b.digest)
    let differences = TrainingConfiguration.differences(a.comparisonText, b.comparisonText)
    #expect(differences.map(\.0) == ["seed: 1"] && differences.map(\.1) == ["seed: 2"])
  }

  /// Where every rank writes, each may have a folder of its own.
  @Test func outputFoldersMayDifferWhereAllRanksWrite() throws {
    func digests(_ sharded: Bool) throws -> Set<UInt64> {
      Set(try ["a", "b"].map { try configuration("", "output_dir=\($0)", "save_sharded=\(sharded)").digest })
    }
    #expect(try digests(false).count == 2)
    #expect(try digests(true).count == 1)
  }
}

@Suite struct BatchArithmeticTests {
  @Test func globalBatchAndEpochs() throws {
    let c = try configuration("per_device_train_batch_size: 4\ngradient_accumulation_steps: 2\nnum_train_epochs: 1.5\n")
    #expect(c.globalBatch(worldSize: 3) == 24)
    #expect(c.stepsPerEpoch(pairs: 48, worldSize: 3) == 2)
    #expect(c.stepsPerEpoch(pairs: 49, worldSize: 3) == 3)
    #expect(c.stepsPerEpoch(pairs: 1, worldSize: 3) == 1)
    #expect(c.totalSteps(pairs: 49, worldSize: 3) == 5)  // ceil(1.5 * 3)
    #expect(try configuration("max_steps: 7\n").totalSteps(pairs: 49, worldSize: 3) == 7)
  }

  @Test func warmupAndIntervals() throws {
    #expect(try configuration("warmup_ratio: 0.1\n").warmupSteps(total: 101) == 11)
    #expect(try configuration("warmup_ratio: 0.1\nwarmup_steps: 3\n").warmupSteps(total: 101) == 3)
    #expect(try configuration("warmup_steps: 0.5\n").warmupSteps(total: 101) == 51)
    let c = try configuration("logging_steps: 0.01\neval_steps: 0.25\nsave_steps: null\n")
    #expect(c.loggingInterval(total: 40) == 1)
    #expect(c.evalInterval(total: 41) == 11)
    #expect(c.saveInterval(total: 41) == nil)
  }
}
