import Foundation

/// A type a configuration key can have: how it is read from YAML and written back.
protocol ConfigurationValue: Sendable {
  init(_ value: YAMLValue) throws(ValueProblem)
  /// YAML text that reads back equal.
  var yaml: String { get }
}

extension Double: ConfigurationValue {
  /// `1e-5` counts as a number although YAML 1.1 wants a dot in it: people write learning rates that way.
  init(_ value: YAMLValue) throws(ValueProblem) {
    guard let number = value.plain.flatMap(Self.number) else { throw ValueProblem(expected: "a number", found: value) }
    self = number
  }

  /// A finite decimal number, with `_` allowed between digits; nil for hexadecimal, infinities and NaN.
  static func number(_ text: String) -> Double? {
    guard text.utf8.allSatisfy({ "0123456789+-.eE_".utf8.contains($0) }) else { return nil }
    guard let number = Double(text.replacingOccurrences(of: "_", with: "")), number.isFinite else { return nil }
    return number
  }

  var yaml: String { description }
}

extension Int: ConfigurationValue {
  /// Also a whole number in another notation: `1e3`, `8.0`.
  init(_ value: YAMLValue) throws(ValueProblem) {
    guard let text = value.plain,
      let number = Int(text.replacingOccurrences(of: "_", with: ""))
        ?? Double.number(text).flatMap({ Int(exactly: $0) })
    else { throw ValueProblem(expected: "a whole number", found: value) }
    self = number
  }

  var yaml: String { description }
}

extension Bool: ConfigurationValue {
  /// `true`/`false`, and `yes`/`no`, `on`/`off` as in YAML 1.1.
  init(_ value: YAMLValue) throws(ValueProblem) {
    switch value.plain?.lowercased() {
    case "true", "yes", "on": self = true
    case "false", "no", "off": self = false
    default: throw ValueProblem(expected: "true or false", found: value)
    }
  }

  var yaml: String { description }
}

extension String: ConfigurationValue {
  init(_ value: YAMLValue) throws(ValueProblem) {
    guard let text = value.text, !text.isEmpty, !value.isNull else {
      throw ValueProblem(expected: "a text", found: value)
    }
    self = text
  }

  /// Unquoted where that is safe, else in double quotes.
  var yaml: String {
    let safe = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./-".utf8
    let plain = utf8.allSatisfy(safe.contains) && utf8.first != UInt8(ascii: "-")
    if plain, !YAMLValue(content: .plain(self)).isNull { return self }
    var text = "\""
    for scalar in unicodeScalars {
      switch scalar {
      case "\"": text += "\\\""
      case "\\": text += "\\\\"
      case "\u{00}"..."\u{1F}", "\u{7F}"..."\u{9F}": text += "\\x" + String(format: "%02x", scalar.value)
      case "\u{2028}", "\u{2029}", "\u{FEFF}": text += "\\u" + String(format: "%04x", scalar.value)
      default: text.unicodeScalars.append(scalar)
      }
    }
    return text + "\""
  }
}

extension Optional: ConfigurationValue where Wrapped: ConfigurationValue {
  init(_ value: YAMLValue) throws(ValueProblem) { self = value.isNull ? nil : try Wrapped(value) }

  var yaml: String { self?.yaml ?? "null" }
}

/// One value or a list of them; null is the empty list.
extension Array: ConfigurationValue where Element: ConfigurationValue {
  init(_ value: YAMLValue) throws(ValueProblem) {
    if case .list(let elements) = value.content {
      self = []
      for element in elements { append(try Element(element)) }
    } else {
      self = value.isNull ? [] : [try Element(value)]
    }
  }

  var yaml: String {
    switch count {
    case 0: "null"
    case 1: self[0].yaml
    default: "[" + map(\.yaml).joined(separator: ", ") + "]"
    }
  }
}

extension ConfigurationValue where Self: RawRepresentable & CaseIterable, RawValue == String {
  init(_ value: YAMLValue) throws(ValueProblem) {
    guard let found = value.plain ?? value.text, let known = Self(rawValue: found) else {
      let names = Self.allCases.map(\.rawValue)
      throw ValueProblem(
        expected: names.count == 1 ? names[0] : "one of \(names.joined(separator: ", "))", found: value)
    }
    self = known
  }

  var yaml: String { rawValue }
}
