package import Packing

/// Tokenized pairs in file order, where each came from, and what was left out.
package struct PreferenceDataset: Sendable {
  package var pairs: [TokenizedPair]
  /// Row of each pair.
  package var locations: [RowLocation]
  package var report: DataReport

  /// Reads, renders and tokenizes all rows of `files`. The result does not depend on `threads`.
  /// - Parameters:
  ///   - chat: needed for conversational rows only.
  ///   - strict: the first row that would be left out is thrown as a `DataDefect`.
  /// - Throws: `PreferenceFileError`, `DataDefect` when strict, `TokenizerError.tooSlow`, and what the chat renderer throws.
  package static func load(
    files: [String], encoding: TextEncoding, chat: ChatRendering? = nil,
    truncation: TokenTruncation = TokenTruncation(),
    strict: Bool = false, threads: Int = 1
  ) throws -> PreferenceDataset {
    let tokenizer = try PairTokenizer(encoding: encoding, truncation: truncation)
    var pairs: [TokenizedPair] = []
    var locations: [RowLocation] = []
    var report = DataReport(files: files)
    try PreferenceReader(files: files).forEachBatch(threads: threads) { rows in
      // Strict or not, the defect named first is the first in the file, whichever stage finds it.
      var rest = rows[...]
      while !rest.isEmpty {
        let located = try Self.texts(of: &rest, chat: chat)
        let outputs = parallelMap(located, threads: threads) { row in Result { try tokenizer.tokenize(row) } }
        for output in try outputs.map({ try $0.get() }) {
          switch output {
          case .success(let (location, output)):
            pairs.append(output.pair)
            locations.append(location)
            report.add(output, at: location)
          case .failure(let defect):
            if strict { throw defect }
            report.add(defect)
          }
        }
      }
    }
    report.finish()
    if pairs.isEmpty {
      if report.rowsRead == 0 { throw PreferenceFileError.empty(file: files.joined(separator: ", ")) }
      throw PreferenceFileError.noPairs(files: files, rows: report.rowsRead, reasons: report.reasons)
    }
    return PreferenceDataset(pairs: pairs, locations: locations, report: report)
  }

  private typealias LocatedText = Result<(RowLocation, PreferenceText), DataDefect>

  /// A row's texts may be many times as long as the row: they are rendered a few rows at a time, and handed on when there is
  /// this much.
  private static let textBytes = 64 << 20
  private static let rowsRenderedAtOnce = 8

  /// Takes rows from the front of `rest` and renders them.
  private static func texts(
    of rest: inout ArraySlice<Result<PreferenceExample, DataDefect>>, chat: ChatRendering?
  ) throws -> [LocatedText] {
    var located: [LocatedText] = []
    var bytes = 0
    while !rest.isEmpty, bytes < textBytes {
      let rows = rest.prefix(rowsRenderedAtOnce)
      rest = rest.dropFirst(rowsRenderedAtOnce)
      var texts = try PreferenceExample.texts(of: rows.compactMap { try? $0.get() }, chat: chat).makeIterator()
      for row in rows {
        let next = row.flatMap { example in
          (texts.next() ?? .failure(example.notRendered)).map { (example.location, $0) }
        }
        if case .success(let (_, text)) = next {
          bytes += text.prompt.utf8.count + text.chosen.utf8.count + text.rejected.utf8.count
        }
        located.append(next)
      }
    }
    return located
  }
}

extension PreferenceDataset {
  package var fingerprint: UInt64 { Self.fingerprint(of: pairs) }

  /// A number that differs when any token, prompt length or the order of pairs differs: a resumed run sees by it that
  /// its data is unchanged. FNV-1a over 32-bit words, lengths included.
  package static func fingerprint(of pairs: [TokenizedPair]) -> UInt64 {
    var hash: UInt64 = 0xCBF2_9CE4_8422_2325
    func mix(_ value: UInt32) { hash = (hash ^ UInt64(value)) &* 0x100_0000_01B3 }
    for pair in pairs {
      for (sequence, promptLength) in [
        (pair.chosen, pair.chosenPromptLength), (pair.rejected, pair.rejectedPromptLength),
      ] {
        mix(UInt32(truncatingIfNeeded: sequence.count))
        mix(UInt32(truncatingIfNeeded: promptLength))
        for token in sequence { mix(UInt32(bitPattern: token)) }
      }
    }
    return hash
  }
}

extension PairTokenizer {
  fileprivate func tokenize(
    _ row: Result<(RowLocation, PreferenceText), DataDefect>
  ) throws -> Result<(RowLocation, Output), DataDefect> {
    switch row {
    case .success(let (location, text)): try tokenize(text, at: location).map { (location, $0) }
    case .failure(let defect): .failure(defect)
    }
  }
}

extension PreferenceExample {
  fileprivate var notRendered: DataDefect {
    DataDefect(.chatTemplate, at: location, "chat template: no text came back")
  }
}
