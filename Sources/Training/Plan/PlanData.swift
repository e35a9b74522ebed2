import Decoder
import Packing
import Preferences
import Tensors
import Tokenization

/// The pairs a plan is computed for: the run's own, or assumed ones.
struct PlanData {
  var pairs: [TokenizedPair]
  /// Pairs of the whole run; nil when nothing is known of the data.
  var count: Int?
  /// Why the lengths are assumed; nil when they are the run's own.
  var assumption: String?

  /// Pairs that stand for data that cannot be read.
  private static let assumedCount = 512

  /// - Parameter tokenizer: how text becomes tokens, or why it cannot.
  init(
    _ configuration: TrainingConfiguration, vocabulary: Int, tokenizer: Result<Tokenizer, any Error>,
    chat: ChatRenderer?,
    threads: Int
  ) {
    do {
      guard !configuration.trainFile.isEmpty else { throw PlanError("no train_file is given") }
      var training = configuration
      training.evalFile = []
      let tokenizer = try tokenizer.get()
      let data = try RunData.load(
        training, tokenizer: tokenizer, chat: chat.flatMap { $0.rendering(for: tokenizer) }, threads: threads)
      pairs = data.training
      count = data.training.count
    } catch {
      pairs = Self.assumed(maxLength: configuration.maxLength, vocabulary: vocabulary)
      count = Self.rows(of: configuration.trainFile)
      // What follows a semicolon is advice.
      assumption = "\(error)".split(separator: ";").first.map(String.init)
    }
  }

  /// Sequences of `maxLength / 2` tokens in the mean, spread evenly from a quarter to three quarters of `maxLength`; a
  /// quarter of `maxLength / 2` is the prompt both share.
  static func assumed(maxLength: Int, vocabulary: Int) -> [TokenizedPair] {
    var random = CounterRandom(seed: 1, stream: 0)
    func below(_ bound: Int) -> Int { Int(random.next() % UInt64(max(bound, 1))) }
    func tokens(_ count: Int) -> [Int32] { (0..<count).map { _ in Int32(below(vocabulary)) } }
    let prompt = max(maxLength / 8, 1)
    return (0..<assumedCount).map { _ in
      let shared = tokens(prompt)
      func completion() -> [Int32] { tokens(max(maxLength / 4 + below(maxLength / 2 + 1) - prompt, 2)) }
      return TokenizedPair(
        chosen: shared + completion(), rejected: shared + completion(), chosenPromptLength: prompt,
        rejectedPromptLength: prompt)
    }
  }

  /// Rows that are understood, whatever their tokens; nil for files that cannot be read.
  private static func rows(of files: [String]) -> Int? {
    guard !files.isEmpty else { return nil }
    var count = 0
    do {
      try PreferenceReader(files: files).forEachBatch { rows in
        count += rows.count { if case .success = $0 { true } else { false } }
      }
    } catch { return nil }
    return count > 0 ? count : nil
  }

  /// Passes of about these sizes, made of these pairs.
  func batches(rows sizes: [Int]) -> [PackedPairs] {
    let mean = pairs.reduce(0) { $0 + $1.rowCount } / max(pairs.count, 1)
    return sizes.map { wanted in
      // One long pair where no two fit; else pairs of typical length.
      let target = wanted < 2 * mean ? wanted : mean
      let typical = pairs.sorted { abs($0.rowCount - target) < abs($1.rowCount - target) }.prefix(64)
      var members: [TokenizedPair] = []
      var count = 0
      for pair in typical where members.isEmpty || count + pair.rowCount <= wanted {
        members.append(pair)
        count += pair.rowCount
      }
      return PackedPairs(members.map { $0.shortened(to: wanted) })
    }
  }
}

extension TokenizedPair {
  /// The pair with both branches cut evenly so that it has about `rows` rows.
  fileprivate func shortened(to rows: Int) -> TokenizedPair {
    guard rowCount > rows else { return self }
    let share = Double(rows) / Double(rowCount)
    func cut(_ tokens: [Int32], _ prompt: Int) -> [Int32] {
      Array(tokens.prefix(max(Int(Double(tokens.count) * share), 3)))
    }
    var pair = self
    pair.chosen = cut(chosen, chosenPromptLength)
    pair.rejected = cut(rejected, rejectedPromptLength)
    return pair
  }
}

/// Why there is no plan.
package struct PlanError: Error, CustomStringConvertible {
  package var description: String
  init(_ description: String) { self.description = description }
}
