package import Packing
package import Preferences
package import Tokenization

/// The pairs of a run, and what the report says of the rows they came from.
package struct RunData: Sendable {
  package var training: [TokenizedPair]
  package var evaluation: [TokenizedPair]
  /// Where each training pair came from; filled on the rank that read the files.
  package var locations: [RowLocation] = []
  package var trainingReport: DataReport?
  package var evaluationReport: DataReport?

  /// Reads, renders and tokenizes the files the configuration names; `eval_split` holds pairs out of the training
  /// files.
  /// - Parameter needsTraining: whether `train_file` must be read (evaluation of an `eval_file` does not).
  package static func load(
    _ configuration: TrainingConfiguration, tokenizer: Tokenizer, chat: ChatRendering?, threads: Int,
    needsTraining: Bool = true
  ) throws -> RunData {
    func dataset(_ files: [String]) throws -> PreferenceDataset {
      try PreferenceDataset.load(
        files: files, encoding: TextEncoding(tokenizer), chat: chat, truncation: configuration.truncation,
        strict: configuration.strictData, threads: threads)
    }
    var data = RunData(training: [], evaluation: [])
    if !configuration.evalFile.isEmpty {
      let set = try dataset(configuration.evalFile)
      data.evaluation = set.pairs
      data.evaluationReport = set.report
    }
    guard needsTraining || configuration.evalFile.isEmpty else { return data }
    let set = try dataset(configuration.trainFile)
    data.training = set.pairs
    data.locations = set.locations
    data.trainingReport = set.report
    if configuration.evalFile.isEmpty, configuration.evalSplit > 0 {
      let split = try EvaluationSplit(
        count: set.pairs.count, fraction: configuration.evalSplit, seed: UInt64(bitPattern: Int64(configuration.seed)))
      data.training = split.training.map { set.pairs[$0] }
      data.evaluation = split.evaluation.map { set.pairs[$0] }
      data.locations = split.training.map { set.locations[$0] }
    }
    return data
  }

  /// The pairs alone, for the other ranks.
  package var bytes: [UInt8] {
    let training = PairTransport.encode(training)
    let count = withUnsafeBytes(of: UInt64(training.count)) { Array($0) }
    return count + training + PairTransport.encode(evaluation)
  }

  package init(bytes: [UInt8]) {
    let count = bytes.withUnsafeBytes { Int($0.loadUnaligned(as: UInt64.self)) }
    training = PairTransport.decode(Array(bytes[8..<(8 + count)]))
    evaluation = PairTransport.decode(Array(bytes[(8 + count)...]))
  }

  init(training: [TokenizedPair], evaluation: [TokenizedPair]) {
    self.training = training
    self.evaluation = evaluation
  }
}
