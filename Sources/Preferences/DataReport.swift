internal import Packing

/// What became of the rows: counts, lengths in tokens, and each row left out or cut by its place.
package struct DataReport: Sendable {
  /// Order statistics of a length. Percentiles are nearest rank: a value that occurs.
  package struct Lengths: Sendable, Equatable {
    package var p50 = 0
    package var p90 = 0
    package var p99 = 0
    package var max = 0
    package var total = 0

    package init(_ lengths: [Int]) {
      guard let last = lengths.max() else { return }
      let sorted = lengths.sorted()
      func percentile(_ percent: Int) -> Int { sorted[Swift.max((percent * sorted.count + 99) / 100, 1) - 1] }
      (p50, p90, p99, max) = (percentile(50), percentile(90), percentile(99), last)
      total = lengths.reduce(0, +)
    }
  }

  package let files: [String]
  /// Rows found, blank lines not counted.
  package private(set) var rowsRead = 0
  package private(set) var rowsKept = 0
  package private(set) var truncatedPrompts: [RowLocation] = []
  package private(set) var truncatedCompletions: [RowLocation] = []
  /// Rows left out, in file order: the first `mostKept` of each kind.
  package private(set) var defects: [DataDefect] = []
  private var counts: [DataDefect.Kind: Int] = [:]
  package static let mostKept = 100
  /// Pairs whose prompt is an empty text: legal, and usually a column that was not recognised.
  package private(set) var emptyPrompts = 0
  package private(set) var prompt = Lengths([])
  package private(set) var chosen = Lengths([])
  package private(set) var rejected = Lengths([])
  /// The longer of a pair's two whole sequences.
  package private(set) var whole = Lengths([])
  /// Rows the decoder computes for a pair, its prefix shared.
  package private(set) var packedRows = Lengths([])
  /// Rows of all pairs if the two sequences of each were computed on their own.
  package private(set) var rowsWithoutSharing = 0

  private var lengths: [(prompt: Int, chosen: Int, rejected: Int, whole: Int, rows: Int)] = []

  package init(files: [String]) { self.files = files }

  mutating func add(_ output: PairTokenizer.Output, at location: RowLocation) {
    rowsRead += 1
    rowsKept += 1
    let pair = output.pair
    if output.promptWasTruncated { truncatedPrompts.append(location) }
    if output.completionWasTruncated { truncatedCompletions.append(location) }
    if output.promptIsEmpty { emptyPrompts += 1 }
    lengths.append(
      (
        pair.chosenPromptLength, pair.chosen.count - pair.chosenPromptLength,
        pair.rejected.count - pair.rejectedPromptLength, max(pair.chosen.count, pair.rejected.count), pair.rowCount
      ))
    rowsWithoutSharing += pair.chosen.count - 1 + pair.rejected.count - 1
  }

  mutating func add(_ defect: DataDefect) {
    rowsRead += 1
    counts[defect.kind, default: 0] += 1
    if counts[defect.kind, default: 0] <= Self.mostKept { defects.append(defect) }
  }

  /// Turns the collected lengths into percentiles.
  mutating func finish() {
    prompt = Lengths(lengths.map(\.prompt))
    chosen = Lengths(lengths.map(\.chosen))
    rejected = Lengths(lengths.map(\.rejected))
    whole = Lengths(lengths.map(\.whole))
    packedRows = Lengths(lengths.map(\.rows))
    lengths = []
  }

  package var rowsLeftOut: Int { counts.values.reduce(0, +) }

  /// Rows left out by kind, the most frequent first.
  package var defectCounts: [(kind: DataDefect.Kind, count: Int)] {
    DataDefect.Kind.allCases.compactMap { kind in counts[kind].map { (kind, $0) } }
      .sorted { ($1.count, $0.kind.order) < ($0.count, $1.kind.order) }
  }

  /// `3 empty completion, 1 malformed JSON`.
  var reasons: String { defectCounts.map { "\($0.count) \($0.kind.rawValue)" }.joined(separator: ", ") }

  /// How many times more rows there would be without shared prefixes.
  package var sharingFactor: Double {
    packedRows.total == 0 ? 1 : Double(rowsWithoutSharing) / Double(packedRows.total)
  }
}

extension DataDefect.Kind {
  fileprivate var order: Int { Self.allCases.firstIndex(of: self) ?? 0 }
}
