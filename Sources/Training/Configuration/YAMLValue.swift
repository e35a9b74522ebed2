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
    if let problem = Self.excess(of: text) {
      throw ConfigurationError(problems: [.init(location: location, message: problem)])
    }
    do {
      guard let node = try Yams.compose(yaml: text) else {
        self.init(content: .plain(""), line: nil)
        return
      }
      var remaining = Self.mostNodes
      self = try Self.converted(node, &remaining)
    } catch is TooManyNodes {
      let message = "more than \(Self.mostNodes) values once aliases (*name) are written out"
      throw ConfigurationError(problems: [.init(location: location, message: message)])
    } catch let error as YamlError {
      throw ConfigurationError(problems: [Self.problem(error, location: location)])
    } catch {
      throw ConfigurationError(problems: [.init(location: location, message: "not valid YAML: \(error)")])
    }
  }

  /// Bytes of a configuration; real ones have a few thousand.
  static let sizeLimit = 1 << 20
  private static let mostNodes = 100_000
  private static let deepest = 100

  private struct TooManyNodes: Error {}

  /// What would exhaust the parser, which calls itself for every level: found before it begins.
  private static func excess(of text: String) -> String? {
    guard text.utf8.count <= sizeLimit else {
      return "has \(text.utf8.count) bytes; a configuration has at most \(sizeLimit)"
    }
    var open = 0
    var deepestFlow = 0
    var deepestBlock = 0
    for line in text.utf8.split(separator: UInt8(ascii: "\n")) {
      var leading = 0
      var isLeading = true
      for byte in line {
        switch byte {
        case UInt8(ascii: "["), UInt8(ascii: "{"): (open, isLeading) = (open + 1, false)
        case UInt8(ascii: "]"), UInt8(ascii: "}"): (open, isLeading) = (max(0, open - 1), false)
        // Every level of blocks takes a column or one of these marks.
        case UInt8(ascii: " "), UInt8(ascii: "\t"), UInt8(ascii: "-"), UInt8(ascii: "?"), UInt8(ascii: ":"):
          if isLeading { leading += 1 }
        default: isLeading = false
        }
        deepestFlow = max(deepestFlow, open)
      }
      deepestBlock = max(deepestBlock, leading)
    }
    return deepestFlow > deepest || deepestBlock > 4 * deepest ? "nested deeper than \(deepest) levels" : nil
  }

  /// Aliases are shared by the parser and written out here, so their number is bounded here.
  private static func converted(_ node: Node, _ remaining: inout Int) throws -> YAMLValue {
    remaining -= 1
    guard remaining > 0 else { throw TooManyNodes() }
    let content: Content
    switch node {
    case .scalar(let scalar):
      content = scalar.style == .plain || scalar.style == .any ? .plain(scalar.string) : .quoted(scalar.string)
    case .sequence(let sequence): content = .list(try sequence.map { try converted($0, &remaining) })
    case .mapping(let mapping):
      var members: [(key: String, value: YAMLValue)] = []
      for (key, value) in mapping {
        var member = try converted(value, &remaining)
        // A key's own line is where a reader looks; a value on the next line would point past it.
        member.line = key.mark?.line
        members.append((key.scalar?.string ?? "(not a text)", member))
      }
      content = .mapping(members)
    case .alias(let alias): content = .plain("*\(alias.anchor.rawValue)")
    }
    return YAMLValue(content: content, line: node.mark?.line)
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
