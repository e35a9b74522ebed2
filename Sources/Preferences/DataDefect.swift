/// Where a row begins: the file as the user named it, and its line counted from 1.
package struct RowLocation: Sendable, Hashable, CustomStringConvertible {
  package var file: String
  package var line: Int

  package init(file: String, line: Int) {
    self.file = file
    self.line = line
  }

  package var description: String { "\(file):\(line)" }
}

/// A row that cannot be trained on, and why. A value that is counted and reported; thrown only when the data must be
/// flawless.
package struct DataDefect: Error, Sendable, Hashable, CustomStringConvertible {
  package enum Kind: String, Sendable, Hashable, CaseIterable {
    case malformedJSON = "malformed JSON"
    case invalidUTF8 = "invalid UTF-8"
    case wrongType = "wrong type"
    case missingField = "missing field"
    case nullField = "null field"
    case differentLayout = "different layout"
    case invalidRole = "invalid role"
    case emptyPrompt = "empty prompt"
    case emptyCompletion = "empty completion"
    case identicalCompletions = "identical completions"
    case chatTemplate = "chat template"
    case tokenizer = "tokenizer"
    case emptyAfterTruncation = "no completion left after truncation"
    case identicalAfterTruncation = "identical after truncation"
  }

  package var location: RowLocation
  package var kind: Kind
  package var reason: String

  package init(_ kind: Kind, at location: RowLocation, _ reason: String) {
    self.kind = kind
    self.location = location
    // Reasons quote rows. Scalars, since one character may have any number of them.
    self.reason =
      reason.utf8.count > Self.longestReason && reason.unicodeScalars.count > Self.longestReason
      ? String(reason.unicodeScalars.prefix(Self.longestReason)) + " ..." : reason
  }

  /// Unicode scalars of a reason that are kept.
  private static let longestReason = 500

  package var file: String { location.file }
  package var line: Int { location.line }
  package var description: String { "\(location): \(reason)" }
}

/// What is wrong with a row, before it is known where the row stands.
struct RowProblem: Error {
  var kind: DataDefect.Kind
  var reason: String

  init(_ kind: DataDefect.Kind, _ reason: String) {
    self.kind = kind
    self.reason = reason
  }
}

/// A file of preference rows that cannot be used at all.
package enum PreferenceFileError: Error, Sendable, Equatable, CustomStringConvertible {
  case noFiles
  case cannotOpen(file: String, reason: String)
  case cannotRead(file: String, reason: String)
  case corrupt(file: String, compression: String, reason: String)
  case unsupportedContent(file: String, content: String, advice: String)
  case empty(file: String)
  case rowTooLong(file: String, line: Int, limit: Int)
  case noChatTemplate(file: String, line: Int)
  case noPairs(files: [String], rows: Int, reasons: String)
  case invalidOption(String)

  package var description: String {
    switch self {
    case .noFiles: "no preference file is given: name at least one .jsonl or .json file"
    case .cannotOpen(let file, let reason):
      "cannot open \(file): \(reason); check the path (relative paths start at the working directory) and its permissions"
    case .cannotRead(let file, let reason): "cannot read \(file): \(reason)"
    case .corrupt(let file, let compression, let reason):
      "\(file): damaged \(compression) data (\(reason)); the file is probably cut short: copy or download it again"
    case .unsupportedContent(let file, let content, let advice): "\(file) is \(content): \(advice)"
    case .empty(let file): "\(file) holds no row: expected one JSON object a line, or an array of objects"
    case .rowTooLong(let file, let line, let limit):
      "\(file):\(line): the row is longer than \(limit) bytes; is this a file of one JSON object a line?"
    case .noChatTemplate(let file, let line):
      "\(file):\(line): rows are conversations, but the model has no chat template; give text rows "
        + "(prompt, chosen, rejected as strings) or a model whose tokenizer_config.json has a chat_template"
    case .noPairs(let files, let rows, let reasons):
      "no usable pair in \(files.joined(separator: ", ")): \(rows) rows read, all left out (\(reasons))"
    case .invalidOption(let reason): reason
    }
  }
}
