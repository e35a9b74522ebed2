import Foundation
import ModelFiles

extension TrainingConfiguration {
  /// What a configuration is read for: decides which files it must name.
  package enum Purpose: Sendable {
    case train
    case eval
    case data
    /// Needs nothing: without a model the machines alone are measured.
    case bench
    /// Needs a model's configuration; data that cannot be read are assumed.
    case plan
  }

  /// Reads a YAML file, lays `key=value` overrides over it, resolves defaults and checks everything.
  /// - Parameter overrides: values are YAML (`train_file=[a.jsonl, b.jsonl]`); the last of a repeated key counts.
  /// - Throws: `ConfigurationError` with every problem found.
  package init(file: String, overrides: [String] = [], for purpose: Purpose = .train) throws(ConfigurationError) {
    let bytes: [UInt8]?
    do throws(FileError) {
      bytes = try ReadableFile.contents(ifPresent: file, limit: YAMLValue.sizeLimit)
    } catch {
      throw ConfigurationError(problems: [.init(location: file, message: "\(error); --config takes a YAML file")])
    }
    guard let bytes else {
      throw ConfigurationError(problems: [.init(location: file, message: "no such file; --config takes a YAML file")])
    }
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw ConfigurationError(problems: [.init(location: file, message: "not UTF-8 text")])
    }
    try self.init(yaml: text, location: file, overrides: overrides, for: purpose)
  }

  /// The same from text; `location` stands for the file name in messages.
  package init(
    yaml text: String, location: String, overrides: [String] = [], for purpose: Purpose = .train
  ) throws(ConfigurationError) {
    let root = try YAMLValue(parsing: text, location: location)
    var problems: [ConfigurationError.Problem] = []
    var settings: [Setting] = []
    switch root.content {
    case .mapping(let members):
      settings = members.map { key, value in
        Setting(key: key, value: value, location: value.line.map { "\(location):\($0)" } ?? location)
      }
    case .plain where root.isNull: break
    case .plain, .quoted, .list:
      problems.append(.init(location: location, message: "expected lines of key: value, found \(root.description)"))
    }
    for override in overrides {
      do {
        let setting = try Setting(override: override)
        settings.removeAll { $0.key == setting.key }
        settings.append(setting)
      } catch { problems += error.problems }
    }

    self.init()
    for setting in settings {
      do {
        try read(setting)
      } catch {
        problems.append(.init(location: setting.location, message: "\(setting.key): \(error.message)"))
      }
    }
    resolve()
    problems += self.problems(settings: settings, purpose: purpose)
    guard problems.isEmpty else { throw ConfigurationError(problems: problems) }
  }

  /// For `bench`, which needs no file. Without one a step has four pairs a rank, so that it is long enough to measure.
  package init(forBench file: String?, overrides: [String]) throws(ConfigurationError) {
    if let file {
      try self.init(file: file, overrides: overrides, for: .bench)
    } else {
      try self.init(
        yaml: "gradient_accumulation_steps: 4", location: "bench", overrides: overrides, for: .bench)
    }
  }

  private mutating func read(_ setting: Setting) throws(ValueProblem) {
    if let key = Self.keysByName[setting.key] {
      try key.read(setting.value, &self)
    } else if let foreign = ForeignKey.all[setting.key] {
      try foreign.check(setting.value)
    } else {
      let nearest = nearestName(to: setting.key, among: Self.keyNames)
      throw ValueProblem("unknown key; the nearest known key is \(nearest)")
    }
  }

  /// Fills in what depends on other keys and expands `~`.
  private mutating func resolve() {
    if beta == nil, orpoAlpha == nil { beta = 0.1 }
    if maxPromptLength == nil { maxPromptLength = min(512, max(1, maxLength / 2)) }
    modelNameOrPath = Self.expandingHome(modelNameOrPath)
    trainFile = trainFile.map(Self.expandingHome)
    evalFile = evalFile.map(Self.expandingHome)
    outputDir = Self.expandingHome(outputDir)
    prometheusFile = prometheusFile.map(Self.expandingHome)
  }

  private static func expandingHome(_ path: String) -> String {
    guard path == "~" || path.hasPrefix("~/"), let home = ProcessInfo.processInfo.environment["HOME"] else {
      return path
    }
    return home + path.dropFirst()
  }
}

/// A key with its value, and where it was given.
struct Setting {
  var key: String
  var value: YAMLValue
  var location: String

  init(key: String, value: YAMLValue, location: String) {
    self.key = key
    self.value = value
    self.location = location
  }

  /// - Parameter text: `key=value`.
  init(override text: String) throws(ConfigurationError) {
    location = "command line"
    guard let equals = text.firstIndex(of: "="), equals != text.startIndex else {
      throw ConfigurationError(problems: [.init(location: location, message: "'\(text)': expected key=value")])
    }
    let key = String(text[..<equals])
    self.key = key
    let written = String(text[text.index(after: equals)...])
    if TrainingConfiguration.keysByName[key]?.isText == true {
      // A path is taken as it stands, whatever YAML would make of its characters.
      value = YAMLValue(content: .plain(written))
    } else {
      do {
        value = try YAMLValue(parsing: written, location: location)
      } catch {
        throw ConfigurationError(
          problems: error.problems.map { .init(location: "command line", message: "\(key): \($0.message)") })
      }
    }
  }
}
