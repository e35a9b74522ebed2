package import JSON

/// `trainer_state.json` in the layout of transformers' `TrainerState`.
package struct TrainerState: Sendable, Equatable {
  package var epoch = 0.0
  /// Optimizer steps completed.
  package var globalStep = 0
  package var maxSteps = 0
  package var loggingSteps = 500
  /// nil: never during training.
  package var evalSteps: Int?
  package var saveSteps: Int?
  /// Per device.
  package var trainBatchSize = 1
  /// Whole epochs begun by the end of the run.
  package var numTrainEpochs = 0
  package var numInputTokensSeen = 0
  package var totalFlos = 0.0
  package var logHistory: [LogEntry] = []

  package init() {}
}

extension TrainerState {
  /// Whether both are of the same step of the same course, whatever the settings of their runs.
  package func isSamePoint(as other: Self) -> Bool {
    globalStep == other.globalStep && numInputTokensSeen == other.numInputTokensSeen
      && JSONValue.array(logHistory.map(\.json)).serialized()
        == JSONValue.array(other.logHistory.map(\.json)).serialized()
  }

  /// Keys sorted and two spaces of indentation, as transformers writes the file.
  package var text: String { json.serialized(indent: 2) + "\n" }

  /// No best model is tracked here, and no callbacks have state: those members say so.
  package var json: JSONValue {
    [
      "best_global_step": .null, "best_metric": .null, "best_model_checkpoint": .null,
      "epoch": .double(epoch),
      "eval_steps": evalSteps.map { .integer($0) } ?? .null,
      "global_step": .integer(globalStep),
      "is_hyper_param_search": false, "is_local_process_zero": true, "is_world_process_zero": true,
      "log_history": .array(logHistory.map(\.json)),
      "logging_steps": .integer(loggingSteps),
      "max_steps": .integer(maxSteps),
      "num_input_tokens_seen": .integer(numInputTokensSeen),
      "num_train_epochs": .integer(numTrainEpochs),
      "save_steps": saveSteps.map { .integer($0) } ?? .null,
      "stateful_callbacks": [:],
      "total_flos": .double(totalFlos),
      "train_batch_size": .integer(trainBatchSize),
      "trial_name": .null, "trial_params": .null,
    ]
  }

  /// - Parameter file: names the file in messages.
  /// - Throws: `TrainerStateError` for what is not JSON, a missing `global_step` or a member of another type.
  package init(parsing bytes: some Collection<UInt8>, file: String) throws(TrainerStateError) {
    let json: JSONValue
    do {
      json = try JSONValue(parsing: bytes)
    } catch { throw TrainerStateError(file: file, reason: error.description) }
    guard json.object != nil else {
      throw TrainerStateError(file: file, reason: "expected an object, found \(json.typeName)")
    }

    func member<Value>(
      _ name: String, _ expected: String, _ value: (JSONValue) -> Value?
    ) throws(TrainerStateError) -> Value? {
      guard let found = json[name], !found.isNull else { return nil }
      guard let value = value(found) else {
        throw TrainerStateError(file: file, reason: "\(name): expected \(expected), found \(found.typeName)")
      }
      return value
    }
    func integer(_ name: String) throws(TrainerStateError) -> Int? {
      // Counts go on from here, and must not overflow.
      try member(name, "a whole number up to 2^53") { $0.integer.flatMap { (0...(1 << 53)).contains($0) ? $0 : nil } }
    }

    guard let globalStep = try integer("global_step") else {
      throw TrainerStateError(file: file, reason: "global_step is missing")
    }
    self.globalStep = globalStep
    epoch = try member("epoch", "a number", \.double) ?? 0
    maxSteps = try integer("max_steps") ?? 0
    loggingSteps = try integer("logging_steps") ?? 500
    evalSteps = try integer("eval_steps")
    saveSteps = try integer("save_steps")
    trainBatchSize = try integer("train_batch_size") ?? 1
    numTrainEpochs = try integer("num_train_epochs") ?? 0
    numInputTokensSeen = try integer("num_input_tokens_seen") ?? 0
    totalFlos = try member("total_flos", "a number", \.double) ?? 0
    logHistory = (try member("log_history", "a list", \.array) ?? []).compactMap { LogEntry(json: $0) }
  }
}

/// Why a `trainer_state.json` cannot be used.
package struct TrainerStateError: Error, Equatable, CustomStringConvertible {
  package var file: String
  package var reason: String
  package var description: String { "\(file): \(reason)" }
}
