/// Why a tokenizer could not be read or used.
package enum TokenizerError: Error, CustomStringConvertible, Equatable {
  case unreadable(path: String, reason: String)
  /// `key` is the path inside the file, as `model.merges[3]`.
  case malformed(file: String, key: String, reason: String)
  /// A component of `tokenizer.json` (or a GGUF pre-tokenizer name) that is not implemented.
  case unsupported(component: String, file: String, key: String)
  case unknownToken(piece: String)
  /// A regular expression whose matching was given up.
  case tooSlow(pattern: String, file: String, key: String)

  package var isTooSlow: Bool { if case .tooSlow = self { true } else { false } }

  package var description: String {
    switch self {
    case .unreadable(let path, let reason): "\(path): \(reason)"
    case .malformed(let file, let key, let reason): "\(file): \(key): \(reason)"
    case .unsupported(let component, let file, let key):
      "\(file): \(key): \(component) is not implemented; the ids would not be the model's, so nothing was tokenized"
    case .tooSlow(let pattern, let file, let key):
      "\(file): \(key): matching the regular expression \"\(pattern.prefix(200))\" took more steps than are allowed "
        + "(10 million, and 500 for each byte of the text)"
    case .unknownToken(let piece):
      "the vocabulary has neither \"\(piece)\" nor the unknown token that tokenizer.json names under model.unk_token"
    }
  }
}
