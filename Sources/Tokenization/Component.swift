internal import JSON

/// One object of tokenizer.json, with where it is, so that every error can name file and key.
struct Component {
  let value: JSONValue
  let file: String
  let key: String

  /// Bounds on what a tokenizer.json may ask for, far above any real one's.
  static let longestText = 4096
  static let mostTokens = 1 << 25
  static let mostSteps = 64
  static let mostGrowth = 1024.0
  /// Of all added tokens; a matcher numbers up to 2^24 nodes, one for a byte.
  static let addedTokenBytes = 1 << 22

  /// The `type` that chooses among components.
  func type() throws(TokenizerError) -> String {
    let type = try string("type")
    guard let name = type.possibleName else {
      throw malformed("type", "has \(type.utf8.count) bytes; at most 64 are accepted")
    }
    return name
  }

  func unsupported(_ component: String) -> TokenizerError { .unsupported(component: component, file: file, key: key) }

  func malformed(_ name: String, _ reason: String) -> TokenizerError {
    .malformed(file: file, key: name.isEmpty ? key : "\(key).\(name)", reason: reason)
  }

  func string(_ name: String) throws(TokenizerError) -> String {
    guard let value = value[name] else { throw malformed(name, "is missing") }
    guard let string = value.string else { throw malformed(name, "must be a string, not \(value.typeName)") }
    return string
  }

  /// A string that may be missing or null.
  func optionalString(_ name: String) throws(TokenizerError) -> String? {
    guard let value = value[name], !value.isNull else { return nil }
    guard let string = value.string else { throw malformed(name, "must be a string, not \(value.typeName)") }
    return string
  }

  /// Metaspace's sign for a space.
  func metaspace() throws(TokenizerError) -> [UInt8] {
    guard let value = value["replacement"], !value.isNull else { return Array("▁".utf8) }
    return Array(try shortString("replacement").utf8)
  }

  func bool(_ name: String, default missing: Bool) throws(TokenizerError) -> Bool {
    guard let value = value[name], !value.isNull else { return missing }
    guard let bool = value.bool else { throw malformed(name, "must be true or false, not \(value.typeName)") }
    return bool
  }

  func integer(_ name: String) throws(TokenizerError) -> Int {
    guard let integer = value[name]?.integer else { throw malformed(name, "must be a whole number") }
    return integer
  }

  /// A string that becomes part of every text or pattern.
  func shortString(_ name: String) throws(TokenizerError) -> String {
    let string = try string(name)
    guard string.utf8.count <= Self.longestText else {
      throw malformed(name, "has \(string.utf8.count) bytes; at most \(Self.longestText) are accepted")
    }
    return string
  }

  /// Itself, if its sequences and the sequences in them have no more steps than are accepted.
  /// - Parameter name: the key of a sequence's members.
  func allSteps(_ name: String) throws(TokenizerError) -> Component {
    let count = Self.stepCount(value, name)
    guard count <= Self.mostSteps else {
      throw malformed("", "has \(count) steps; at most \(Self.mostSteps) are accepted")
    }
    return self
  }

  /// A sequence without members counts too.
  private static func stepCount(_ step: JSONValue, _ name: String) -> Int {
    guard let members = step[name]?.array, !members.isEmpty else { return 1 }
    return members.reduce(0) { $0 + stepCount($1, name) }
  }

  /// A number of repetitions.
  func count(_ name: String) throws(TokenizerError) -> Int {
    let count = try integer(name)
    guard (0...Self.longestText).contains(count) else {
      throw malformed(name, "is \(count); expected 0 to \(Self.longestText)")
    }
    return count
  }

  /// The objects of a list.
  func list(_ name: String) throws(TokenizerError) -> [Component] {
    guard let array = value[name]?.array else { throw malformed(name, "must be a list") }
    return array.enumerated().map { Component(value: $1, file: file, key: "\(key).\(name)[\($0)]") }
  }

  func choice<Choice: RawRepresentable<String>>(_ name: String, _ text: String, _: Choice.Type) throws(TokenizerError)
    -> Choice
  {
    guard let choice = text.possibleName.flatMap(Choice.init(rawValue:)) else {
      throw malformed(name, "\"\(text)\" is not a known value")
    }
    return choice
  }

  /// `{"String": ...}` or `{"Regex": ...}`.
  func pattern(_ name: String) throws(TokenizerError) -> TextPattern {
    guard let value = value[name] else { throw malformed(name, "is missing") }
    if let literal = value.string ?? value["String"]?.string {
      guard literal.utf8.count <= Self.longestText else {
        throw malformed(name, "has \(literal.utf8.count) bytes; at most \(Self.longestText) are accepted")
      }
      return .literal(Array(literal.utf8))
    }
    guard let expression = value["Regex"]?.string else { throw malformed(name, "must hold \"String\" or \"Regex\"") }
    guard expression.utf8.count <= Self.longestText else {
      throw malformed(
        name, "is a regular expression of \(expression.utf8.count) bytes; at most \(Self.longestText) are accepted")
    }
    return try .expression(expression, file: file, key: "\(key).\(name)")
  }
}
