/// A key of TRL or transformers that this version has no choice in: allowed with the value that says what happens
/// anyway, so that common files load unchanged, and refused with any other.
struct ForeignKey: Sendable {
  /// Values, as YAML writes them, that describe what is done.
  var accepted: [String]
  /// What to do instead.
  var advice: String

  func check(_ value: YAMLValue) throws(ValueProblem) {
    let written = value.isNull ? "null" : value.text
    if let written, accepted.contains(where: { Self.equal($0, written) }) { return }
    var message = "\(value.description) is not supported by this version"
    if !accepted.isEmpty { message += ", only \(accepted.joined(separator: " or "))" }
    throw ValueProblem(advice.isEmpty ? message : message + "; " + advice)
  }

  /// Booleans in any of YAML's spellings, numbers by value, other texts exactly.
  private static func equal(_ accepted: String, _ written: String) -> Bool {
    if accepted == written { return true }
    if let a = Double.number(accepted), let b = Double.number(written) { return a == b }
    let spellings = ["true": ["true", "yes", "on"], "false": ["false", "no", "off"], "no": ["no", "false", "off"]]
    return spellings[accepted]?.contains(written.lowercased()) ?? false
  }

  private init(_ accepted: [String], _ advice: String = "") {
    self.accepted = accepted
    self.advice = advice
  }

  static let all: [String: ForeignKey] = [
    // Precision and memory.
    "fp16": ForeignKey(["false"], "bf16 is supported"),
    "tf32": ForeignKey(["false", "null"]),
    "torch_dtype": ForeignKey(["float32"], "parameters are kept in fp32; bf16 is for products"),
    "dtype": ForeignKey(["float32"], "parameters are kept in fp32; bf16 is for products"),
    "gradient_checkpointing_kwargs": ForeignKey(["null"]),
    "load_in_8bit": ForeignKey(["false"]),
    "load_in_4bit": ForeignKey(["false"]),
    "use_peft": ForeignKey(["false"], "all parameters are trained"),
    "use_liger_kernel": ForeignKey(["false"]),
    "attn_implementation": ForeignKey([], "remove it"),
    "torch_compile": ForeignKey(["false"]),
    "use_cpu": ForeignKey(["true"]),
    // Distribution: ranks come from mpirun.
    "deepspeed": ForeignKey(["null"], "ranks come from mpirun"),
    "fsdp": ForeignKey(["null", "false", ""], "ranks come from mpirun"),
    "fsdp_config": ForeignKey(["null"], "ranks come from mpirun"),
    // Optimizer and loss.
    "optim": ForeignKey(["adamw_torch", "adamw_torch_fused"]),
    "optim_args": ForeignKey(["null"]),
    "label_smoothing_factor": ForeignKey(["0"]),
    "neftune_noise_alpha": ForeignKey(["null"]),
    "disable_dropout": ForeignKey(["true"]),
    // Data.
    "dataset_name": ForeignKey([], "name files with train_file and eval_file"),
    "max_completion_length": ForeignKey(["null"], "max_length bounds prompt and completion together"),
    "remove_unused_columns": ForeignKey(["true", "false"]),
    "dataset_num_proc": ForeignKey(["null"]),
    "dataloader_num_workers": ForeignKey(["0"]),
    "dataloader_drop_last": ForeignKey(["false"], "a short last batch counts its real pairs"),
    "group_by_length": ForeignKey(["false"]),
    "data_seed": ForeignKey(["null"], "seed decides the order"),
    "padding_value": ForeignKey(["null"], "batches have no padding"),
    "label_pad_token_id": ForeignKey(["-100"], "batches have no padding"),
    "is_encoder_decoder": ForeignKey(["false", "null"]),
    "trust_remote_code": ForeignKey(["false"], "no code is run from a model folder"),
    "model_init_kwargs": ForeignKey(["null"]),
    // When to log, evaluate and save.
    "logging_strategy": ForeignKey(["steps"], "use logging_steps"),
    "logging_first_step": ForeignKey(["false"], "use logging_steps: 1"),
    "eval_strategy": ForeignKey(["steps", "no"], "use eval_steps"),
    "evaluation_strategy": ForeignKey(["steps", "no"], "use eval_steps"),
    "save_strategy": ForeignKey(["steps"], "use save_steps; null saves none before the end"),
    "save_safetensors": ForeignKey(["true"]),
    "save_only_model": ForeignKey(["false"]),
    "load_best_model_at_end": ForeignKey(["false"]),
    "generate_during_eval": ForeignKey(["false"]),
    "push_to_hub": ForeignKey(["false"], "upload output_dir afterwards"),
    "full_determinism": ForeignKey(["false"]),
  ]
}
