import Preferences

/// When the data pipeline needs chat templates.
package enum ChatTemplates {
  /// Whether any of `files` begins with a conversational row: only then is a template needed. A file that cannot be
  /// read counts as not; reading it properly says why.
  package static func areNeeded(for files: [String]) -> Bool {
    struct Found: Error {}
    for file in files {
      do {
        try PreferenceReader(files: [file]).forEachBatch(rows: 1) { rows in
          guard case .success(let example) = rows.first else { return }
          if case .messages = example.content { throw Found() }
          throw CancellationError()
        }
      } catch is Found { return true } catch {}
    }
    return false
  }
}
