/// Everything that is wrong with a configuration, found in one go.
package struct ConfigurationError: Error, Equatable, CustomStringConvertible {
  package struct Problem: Sendable, Equatable, CustomStringConvertible {
    /// `FILE:LINE`, `FILE` or `command line`; nil where the configuration as a whole is meant.
    package var location: String?
    package var message: String
    package var description: String { location.map { "\($0): \(message)" } ?? message }
  }

  package var problems: [Problem]

  package var description: String {
    if problems.count == 1 { return problems[0].description }
    return "\(problems.count) problems in the configuration:\n"
      + problems.map { "  \($0)" }.joined(separator: "\n")
  }
}

/// What one value should have been; the reader adds key and place.
struct ValueProblem: Error {
  var message: String

  init(_ message: String) { self.message = message }

  init(expected: String, found value: YAMLValue) { self.init("expected \(expected), found \(value.description)") }
}
