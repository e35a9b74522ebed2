import Foundation
import ModelFiles
import Testing
import Training

/// Configurations, output folders and texts that somebody prepared.
@Suite struct HostileInputTests {
  private func refusal(_ yaml: String) -> String {
    let error = #expect(throws: ConfigurationError.self) {
      try TrainingConfiguration(yaml: yaml, location: "run.yaml", for: .bench)
    }
    return error.map { "\($0)" } ?? ""
  }

  @Test func aliasesDoNotMultiply() {
    var yaml = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    for level in 1...9 {
      let aliases = Array(repeating: "*a\(level - 1)", count: 10).joined(separator: ", ")
      yaml += "a\(level): &a\(level) [\(aliases)]\n"
    }
    #expect(refusal(yaml).contains("aliases"))
  }

  @Test func nestingIsBounded() {
    #expect(refusal("a: " + String(repeating: "[", count: 100_000)).contains("nested deeper"))
    #expect(refusal("a:\n" + String(repeating: "- ", count: 100_000) + "x").contains("nested deeper"))
    #expect(refusal(String(repeating: "? ", count: 100_000) + "x").contains("nested deeper"))
    #expect(refusal("a: " + String(repeating: "x", count: 2 << 20)).contains("bytes"))
  }

  @Test func plantedLinksAreNotFollowed() throws {
    try withTemporaryDirectory { directory in
      let (victim, path) = (directory + "/victim", directory + "/metrics.jsonl")
      try "precious".write(toFile: victim, atomically: true, encoding: .utf8)
      #expect(symlink(victim, path) == 0)
      let error = #expect(throws: FileError.self) { try AppendedFile(path: path) }
      #expect(error?.description.contains("link") == true)
      try AppendedFile.replace(path, with: Array("new".utf8))
      #expect(try text(path) == "new")
      #expect(try text(victim) == "precious")
      #expect(try FileManager.default.contentsOfDirectory(atPath: directory).sorted() == ["metrics.jsonl", "victim"])
      #expect(mkfifo(directory + "/pipe", 0o600) == 0)
      #expect(throws: FileError.self) { try AppendedFile(path: directory + "/pipe") }
      #expect(throws: FileError.self) { try AppendedFile(path: path, isNew: true) }
    }
  }

  @Test func filesFollowTheUmask() throws {
    try withTemporaryDirectory { directory in
      let old = umask(0o077)
      defer { umask(old) }
      try AppendedFile.replace(directory + "/private", with: [])
      let attributes = try FileManager.default.attributesOfItem(atPath: directory + "/private")
      #expect(attributes[.posixPermissions] as? Int == 0o600)
    }
  }

  /// What a file holds reaches the terminal as text.
  @Test func messagesShowControlCharacters() {
    var output = ""
    let console = Console(totalSteps: 1, terminal: nil, output: { output += $0 }, now: { 0 })
    console.note("role '\u{1B}]0;title\u{07}\u{9B}2J\u{202E}' in a\tline\nand another é")
    #expect(output == "role '\\u{1B}]0;title\\u{7}\\u{9B}2J\\u{202E}' in a\tline\nand another é\n")
    output = ""
    console.note(String(repeating: "x", count: 1_000_000))
    #expect(output.utf8.count < 5000)
  }
}
