import Yams

/// A YAML value as it was written, with its line: what type it must have is for the key to say.
struct YAMLValue: Sendable {
  enum Content: Sendable {
    /// An unquoted scalar: `1e-5`, `true`, `null`, `models/a`.
    case plain(String)
    case quoted(String)
    case list([YAMLValue])
    case mapping([(key: String, value: YAMLValue)])
  }

  var content: Content
  /// Line in the file, from 1.
  var line: Int?

  /// The value as an error message shows it.
  var description: String {
    switch content {
    case .plain(let text): isNull ? "null" : "'\(text)'"
    case .quoted(let text): "the quoted text \"\(text)\""
    case .list(let elements): "a list of \(elements.count)"
    case .mapping: "a mapping"
    }
  }

  var isNull: Bool {
    if case .plain(let text) = content { ["", "~", "null", "Null", "NULL"].contains(text) } else { false }
  }

  var plain: String? { if case .plain(let text) = content { text } else { nil } }

  /// Text of a scalar, quoted or not.
  var text: String? {
    switch content {
    case .plain(let text), .quoted(let text): text
    case .list, .mapping: nil
    }
  }
}

extension YAMLValue {
  /// Parses one document; an empty one is null.
  /// - Throws: `ConfigurationError` with the line of the syntax error or of a repeated key.
  init(parsing text: String, location: String) throws(ConfigurationError) {
    do {
      guard let node = try Yams.compose(yaml: text) else {
        self.init(content: .plain(""), line: nil)
        return
      }
      self.init(node)
    } catch let error as YamlError {
      throw ConfigurationError(problems: [Self.problem(error, location: location)])
    } catch {
      throw ConfigurationError(problems: [.init(location: location, message: "not valid YAML: \(error)")])
    }
  }

  private init(_ node: Node) {
    line = node.mark?.line
    switch node {
    case .scalar(let scalar):
      content = scalar.style == .plain || scalar.style == .any ? .plain(scalar.string) : .quoted(scalar.string)
    case .sequence(let sequence): content = .list(sequence.map { YAMLValue($0) })
    case .mapping(let mapping):
      content = .mapping(mapping.map { (key: $0.key.scalar?.string ?? "(not a text)", value: YAMLValue($0.value)) })
      // A key's own line is where a reader looks; a value on the next line would point past it.
      if case .mapping(var members) = content {
        for (index, pair) in mapping.enumerated() { members[index].value.line = pair.key.mark?.line }
        content = .mapping(members)
      }
    case .alias(let alias): content = .plain("*\(alias.anchor.rawValue)")
    }
  }

  private static func problem(_ error: YamlError, location: String) -> ConfigurationError.Problem {
    switch error {
    case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _),
      .composer(_, let problem, let mark, _):
      .init(location: "\(location):\(mark.line)", message: "not valid YAML: \(problem) (column \(mark.column))")
    case .duplicatedKeysInMapping(let keys, let context):
      .init(
        location: "\(location):\(context.mark.line)", message: "given more than once: \(keys.joined(separator: ", "))")
    default: .init(location: location, message: "not valid YAML: \(error)")
    }
  }
}
