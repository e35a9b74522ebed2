internal import JSON

/// Rows of one or several files, in order, in batches of bounded size.
package struct PreferenceReader: Sendable {
  private let files: [String]
  private let rowLimit: Int

  /// - Parameter rowLimit: Bytes one row may take; a longer one is an error, so that memory stays bounded.
  package init(files: [String], rowLimit: Int = 64 << 20) {
    self.files = files
    self.rowLimit = rowLimit
  }

  package static let defaultBatchRows = 1024
  private static let batchBytes = 32 << 20

  /// Hands over every row as a parsed example or a defect, in file order. A file's layout is that of its first good
  /// row.
  /// - Throws: `PreferenceFileError`, and what `body` throws.
  package func forEachBatch(
    rows batchRows: Int = defaultBatchRows, threads: Int = 1,
    _ body: ([Result<PreferenceExample, DataDefect>]) throws -> Void
  ) throws {
    guard !files.isEmpty else { throw PreferenceFileError.noFiles }
    for file in files {
      var scanner = try RowScanner(path: file, rowLimit: rowLimit)
      var layout: RowLayout?
      var batch: [SourceRow] = []
      var bytes = 0
      func flush() throws {
        if batch.isEmpty { return }
        try body(RowLayout.examples(batch, layout: &layout, threads: threads))
        batch.removeAll(keepingCapacity: true)
        bytes = 0
      }
      while let row = try scanner.next() {
        if case .success(let content) = row.bytes { bytes += content.count }
        batch.append(row)
        if batch.count >= batchRows || bytes >= Self.batchBytes { try flush() }
      }
      try flush()
    }
  }

  /// All rows at once.
  package func examples(threads: Int = 1) throws -> [Result<PreferenceExample, DataDefect>] {
    var all: [Result<PreferenceExample, DataDefect>] = []
    try forEachBatch(threads: threads) { all += $0 }
    return all
  }
}

extension SourceRow {
  /// The row as a JSON object; lines in messages are those of the file.
  func parsed() -> Result<JSONObject, DataDefect> {
    switch bytes {
    case .failure(let defect): return .failure(defect)
    case .success(let bytes):
      do throws(JSONError) {
        let value = try JSONValue(parsing: bytes)
        guard case .object(let object) = value else {
          return .failure(
            DataDefect(.wrongType, at: location, "the row is \(value.typeName), expected an object with named fields"))
        }
        return .success(object)
      } catch {
        if String(validating: bytes, as: UTF8.self) == nil {
          return .failure(DataDefect(.invalidUTF8, at: location, "the row is not valid UTF-8 (\(error.reason))"))
        }
        let line = error.line > 1 ? "line \(location.line + error.line - 1), " : ""
        return .failure(
          DataDefect(.malformedJSON, at: location, "malformed JSON at \(line)column \(error.column): \(error.reason)"))
      }
    }
  }
}
