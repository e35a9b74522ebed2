package import Checkpoints
import DataParallel
package import Decoder
import JSON
import ModelFiles
package import Tensors

/// A run's state as files and back: parameters, moments, where it stands, and what it must not be mixed up with.
package enum RunCheckpoint {
  package static let stateFile = "training_state.json"
  package static let trainerStateFile = "trainer_state.json"
  /// What the run's state may take, whose file names its size itself: log entries of a million steps.
  package static let mostStateBytes = 1 << 29
  /// Beyond any run; sums of two such counts are numbers still.
  static let mostCounted = 1 << 53

  /// Where a run stands; every rank knows it.
  package struct Progress: Sendable, Equatable {
    /// Steps done, and those of them that changed the parameters.
    package var step = 0
    package var optimizerSteps = 0
    /// Steps skipped in all, and since the last one that was not.
    package var skippedSteps = 0
    package var skippedInARow = 0
    /// Whether the run stopped before the evaluation that belongs after this step was over.
    package var evaluationDue = false
    package var norms = NormHistory()

    init() {}

    /// - Parameter stored: what `Identity.bytes` wrote.
    init(_ stored: JSONValue, checkpoint: String) throws(ResumeError) {
      func count(_ key: String) throws(ResumeError) -> Int {
        guard let value = stored[key]?.integer, (0...mostCounted).contains(value) else {
          throw ResumeError("\(checkpoint)/\(stateFile): \(key) must be a whole number of at most \(mostCounted)")
        }
        return value
      }
      step = try count("step")
      optimizerSteps = try count("optimizer_steps")
      skippedSteps = try count("skipped_steps")
      skippedInARow = try count("skipped_in_a_row")
      evaluationDue = stored["evaluation_due"]?.bool ?? false
      norms = NormHistory((stored["recent_norms"]?.array ?? []).compactMap(\.double))
    }

    /// As ranks tell it each other.
    var bytes: [UInt8] {
      let counts = [step, optimizerSteps, skippedSteps, skippedInARow, evaluationDue ? 1 : 0].map(UInt64.init)
      return (counts + norms.values.map(\.bitPattern)).withUnsafeBytes { Array($0) }
    }

    init(bytes: [UInt8]) {
      let words = bytes.withUnsafeBytes { bytes in
        stride(from: 0, to: bytes.count, by: 8).map { bytes.loadUnaligned(fromByteOffset: $0, as: UInt64.self) }
      }
      (step, optimizerSteps, skippedSteps, skippedInARow) = (Int(words[0]), Int(words[1]), Int(words[2]), Int(words[3]))
      evaluationDue = words[4] == 1
      norms = NormHistory(words[5...].map(Double.init(bitPattern:)))
    }
  }

  /// What must be the same for a run to continue as if it had never stopped.
  package struct Identity: Sendable, Equatable {
    package var globalBatch: Int
    package var pairs: Int
    /// Checksum of all training token ids, in order.
    package var dataDigest: String
    package var seed: Int
    package var shuffle: Bool

    private var members: [(key: String, value: JSONValue)] {
      [
        ("global_batch", .integer(globalBatch)), ("pairs", .integer(pairs)),
        ("data_digest", .string(dataDigest)), ("seed", .integer(seed)), ("shuffle", .bool(shuffle)),
      ]
    }

    /// The training state, as stored.
    /// - Parameter origin: the checkpoint that the run was told to begin with, if any.
    func bytes(_ progress: Progress, totalSteps: Int, window: MetricWindow, origin: String?) -> [UInt8] {
      let head: [(key: String, value: JSONValue)] = [
        ("format", 1), ("step", .integer(progress.step)), ("total_steps", .integer(totalSteps)),
        ("optimizer_steps", .integer(progress.optimizerSteps)),
        ("skipped_steps", .integer(progress.skippedSteps)), ("skipped_in_a_row", .integer(progress.skippedInARow)),
        ("evaluation_due", .bool(progress.evaluationDue)),
        ("recent_norms", .array(progress.norms.values.map { .double($0) })),
        (originKey, origin.map { .string($0) } ?? .null),
      ]
      let object = JSONObject(head + members + [("log_window", window.json)])
      return Array((JSONValue.object(object).serialized(indent: 2) + "\n").utf8)
    }

    /// - Parameter accumulation: `gradient_accumulation_steps` that would make the global batch right, when there is
    ///   one.
    func check(
      _ stored: JSONValue, checkpoint: String, accumulation: (Int) -> Int?
    ) throws(ResumeError) {
      for (key, value) in members {
        guard let found = stored[key] else { throw ResumeError("\(checkpoint)/\(stateFile): \(key) is missing") }
        guard found.serialized() != value.serialized() else { continue }
        var message =
          "\(checkpoint) belongs to a run with \(key) \(found.serialized()), this one has \(value.serialized())"
        switch key {
        case "global_batch":
          if let wanted = found.integer.flatMap(accumulation) {
            message += "; with these ranks set gradient_accumulation_steps=\(wanted)"
          } else {
            message += "; choose ranks, per_device_train_batch_size and gradient_accumulation_steps with that product"
          }
        default: message += "; continue it with the data and settings it began with, or choose another output_dir"
        }
        throw ResumeError(message)
      }
    }
  }

  static let originKey = "resumed_from"

  /// Contents of a checkpoint folder, or of a model's.
  /// - Parameter moments: the file of AdamW's moments; `nil` for a model alone.
  package static func contents(
    _ layout: ParameterLayout, _ parameters: UnsafeBufferPointer<Float>, moments: MomentFile?,
    modelFiles: [(name: String, bytes: [UInt8])],
    stateFiles: [(name: String, bytes: [UInt8])]
  ) -> CheckpointContents {
    let model = layout.entries.map {
      NamedTensor(
        name: $0.name, shape: $0.shape, values: UnsafeBufferPointer(rebasing: parameters[$0.range]))
    }
    return CheckpointContents(model: model, tensorFiles: moments.map { [$0] } ?? [], files: modelFiles + stateFiles)
  }

  /// Reads the parameters of a checkpoint.
  package static func loadModel(_ checkpoint: Checkpoint, into decoder: Decoder) throws {
    try checkpoint.loadModel(
      into: decoder.layout.entries.map {
        TensorDestination(
          name: $0.name, shape: $0.shape, values: UnsafeMutableBufferPointer(rebasing: decoder.parameters[$0.range]))
      })
  }
}

/// Why a run cannot be continued.
package struct ResumeError: Error, CustomStringConvertible, Equatable {
  package var description: String
  init(_ description: String) { self.description = description }
}
