import Foundation
import Preferences
import Testing

@Suite struct PreferenceReaderTests {
  static let row = #"{"prompt": "p", "chosen": "c", "rejected": "r"}"#

  @Test(arguments: ["rows.jsonl.gz", "rows.jsonl.zst", "rows.json.gz", "rows.json.zst"])
  func compressedFilesGiveTheSameRows(_ name: String) throws {
    // Two members or frames, one after the other; recognised by content, so the name may lie.
    let bytes = try Data(contentsOf: URL(fileURLWithPath: golden(name)))
    for file in [try TemporaryFile(bytes, name: name), try TemporaryFile(bytes, name: "rows")] {
      let examples = try file.examples(threads: 2)
      #expect(examples.count == 2000)
      for (index, example) in examples.enumerated() {
        let example = try example.get()
        #expect(example.location.line == index + 1)
        #expect(example.json == #"["p\#(index)", "yes \#(index)", "no \#(index)"]"#)
      }
    }
  }

  @Test(arguments: ["rows.jsonl.gz", "rows.jsonl.zst"]) func aDamagedFileIsAnError(_ name: String) throws {
    let whole = try Data(contentsOf: URL(fileURLWithPath: golden(name)))
    let short = try TemporaryFile(whole.dropLast(30), name: name)
    #expect(throws: PreferenceFileError.self) { try short.examples() }
    var flipped = whole
    for index in 200..<240 { flipped[index] ^= 0x55 }
    let damaged = try TemporaryFile(flipped, name: name)
    #expect(throws: PreferenceFileError.self) { try damaged.examples() }
  }

  @Test func aPipeIsNotWaitedFor() throws {
    let path = NSTemporaryDirectory() + "rows-\(UUID().uuidString).jsonl"
    #expect(mkfifo(path, 0o600) == 0)
    defer { unlink(path) }
    let error = #expect(throws: PreferenceFileError.self) { try PreferenceReader(files: [path]).examples() }
    #expect(error?.description.contains("regular file") == true)
  }

  /// Ten million bytes without a line end, in a file of ten thousand: given up at the limit of a row.
  @Test func aCompressionBombStopsAtTheRowLimit() throws {
    let plain = try TemporaryFile(Data(repeating: UInt8(ascii: "x"), count: 10_000_000), name: "rows.jsonl")
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = ["gzip", "-k", plain.path]
    try process.run()
    process.waitUntilExit()
    defer { unlink(plain.path + ".gz") }
    let bomb = PreferenceReader(files: [plain.path + ".gz"], rowLimit: 1 << 20)
    #expect(throws: PreferenceFileError.rowTooLong(file: plain.path + ".gz", line: 1, limit: 1 << 20)) {
      try bomb.examples()
    }
  }

  @Test func severalFilesComeInOrder() throws {
    let first = try TemporaryFile(Self.row + "\n" + Self.row)
    let second = try TemporaryFile(#"[{"chosen": "ab", "rejected": "ac"}]"#, name: "rows.json")
    let locations = try PreferenceReader(files: [second.path, first.path]).examples().map {
      try $0.get().location.description
    }
    #expect(locations == ["\(second.path):1", "\(first.path):1", "\(first.path):2"])
  }

  @Test(arguments: [
    "\u{FEFF}\(row)\r\n\r\n  \n\(row)", "\(row)\n\n\n\(row)\n", "\n\n\u{09}\n\(row)",
    "\u{FEFF}[\r\n\(row),\r\n\r\n\r\n\(row)]",
  ])
  func linesAreCounted(_ text: String) throws {
    let normalized = text.replacingOccurrences(of: "\r\n", with: "\n").split(
      separator: "\n", omittingEmptySubsequences: false)
    let expected = normalized.enumerated().filter { $0.element.contains("prompt") }.map { $0.offset + 1 }
    for name in ["rows.jsonl", "rows.json", "rows"] {
      let file = try TemporaryFile(text, name: name)
      #expect(try file.examples().map { try $0.get().location.line } == expected)
    }
  }

  @Test func anArrayReportsTheLineOfEachRow() throws {
    let file = try TemporaryFile(
      """
      [
        {
          "prompt": "a \\" ] } , \\\\",
          "chosen": "c", "rejected": "r"
        }, {"prompt": "b",
          "chosen": "c", "rejected": "r"},
        {"prompt": "oops, "chosen": "c", "rejected": "r"},
        {"prompt": "d",
         "chosen": tru, "rejected": "r"},
        {"prompt": "e", "chosen": "c", "rejected": "r"},
      ]
      """, name: "rows.json")
    let examples = try file.examples()
    try #require(examples.count == 6)
    #expect(examples.map { (try? $0.get().location.line) ?? -1 } == [2, 5, -1, -1, 10, -1])
    #expect(examples.map { $0.failure?.kind } == [nil, nil, .malformedJSON, .malformedJSON, nil, .malformedJSON])
    #expect(examples.compactMap { $0.failure?.line } == [7, 8, 11])
    #expect(examples[3].failure?.reason.contains("line 9") == true)
  }

  @Test(arguments: [
    ("[\(row)", 1, 1), ("[\(row),\n\(row.dropLast())", 1, 2), ("[\(row)]\n x", 1, 2), ("[,\(row)]", 1, 1),
    ("[\(row),]", 1, 1),
  ])
  func arrayDefects(_ text: String, _ good: Int, _ line: Int) throws {
    let examples = try TemporaryFile(text, name: "rows.json").examples()
    #expect(examples.filter { $0.failure == nil }.count == good)
    #expect(examples.compactMap { $0.failure?.kind } == [.malformedJSON])
    #expect(examples.compactMap { $0.failure?.line } == [line])
  }

  @Test func invalidUTF8IsADefect() throws {
    let bytes = Array(#"{"prompt": "p", "chosen": "c"#.utf8) + [0xC3, 0x28] + Array(#"", "rejected": "r"}"#.utf8)
    let file = try TemporaryFile(Array(Self.row.utf8) + [0x0A] + bytes + [0x0A])
    let examples = try file.examples()
    #expect(examples.map { $0.failure?.kind } == [nil, .invalidUTF8])
    #expect(examples.last?.failure?.line == 2)
  }

  @Test(arguments: [("", "rows.jsonl"), ("\n \r\n", "rows.jsonl"), ("[ ]", "rows.json"), ("\u{FEFF}", "rows.json")])
  func anEmptyFileIsAnError(_ text: String, _ name: String) throws {
    let file = try TemporaryFile(text, name: name)
    #expect(throws: PreferenceFileError.empty(file: file.path)) { try file.examples() }
  }

  @Test(arguments: ["PAR1\u{01}\u{02}", "BZh91AY", "PK\u{03}\u{04}", "{\n  \"data\": []\n}"])
  func otherFormatsAreNamed(_ text: String) throws {
    let file = try TemporaryFile(text, name: "rows.json")
    let error = try #require(throws: PreferenceFileError.self) { try file.examples() }
    guard case .unsupportedContent = error else {
      Issue.record("\(error)")
      return
    }
  }

  @Test func unreadablePathsAreErrors() throws {
    let folder = FileManager.default.temporaryDirectory.path
    for path in [folder + "/no-such-file.jsonl", folder] {
      let error = try #require(throws: PreferenceFileError.self) { try PreferenceReader(files: [path]).examples() }
      #expect(error.description.contains(path))
    }
    #expect(throws: PreferenceFileError.noFiles) { try PreferenceReader(files: []).examples() }
  }

  @Test(arguments: ["", "["]) func aRowOverTheLimitIsAnError(_ opening: String) throws {
    let long = #"{"prompt": "\#(String(repeating: "x", count: 1_000_000))"}"#
    let file = try TemporaryFile(opening + Self.row + (opening.isEmpty ? "\n" : ",\n") + long)
    let reader = PreferenceReader(files: [file.path], rowLimit: 1000)
    #expect(throws: PreferenceFileError.rowTooLong(file: file.path, line: 2, limit: 1000)) { try reader.examples() }
  }

  @Test func deepNestingIsNoDanger() throws {
    let depths = [1000, 1_000_000]
    let rows = depths.map { depth in
      #"{"prompt": "p", "chosen": "c", "rejected": "r", "x": "#
        + String(repeating: "[", count: depth) + String(repeating: "]", count: depth) + "}"
    }
    for text in [rows.joined(separator: "\n"), "[" + rows.joined(separator: ",\n") + "]"] {
      #expect(try TemporaryFile(text).examples(threads: 2).map { $0.failure?.kind } == [nil, .malformedJSON])
    }
  }

  /// Bytes changed, added and removed at random: every outcome is a row, a defect with its place, or an error that
  /// names the file.
  @Test(arguments: ["rows.jsonl.gz", "rows.json.zst", "plain.jsonl", "plain.json"]) func damageNeverCrashes(
    _ name: String
  ) throws {
    let rows = (0..<6).map { #"  {"prompt": "\u00e9 \"\#($0)\"", "chosen": "yes", "rejected": "no"}"# }
    let original: [UInt8] =
      switch name {
      case "plain.jsonl": Array(rows.joined(separator: "\n").utf8)
      case "plain.json": Array("[\n\(rows.joined(separator: ",\n"))\n]\n".utf8)
      default: Array(try Data(contentsOf: URL(fileURLWithPath: golden(name))))
      }
    var state: UInt64 = 9
    func random(_ bound: Int) -> Int {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int(state >> 33) % bound
    }
    let alphabet = Array("{}[]\",:\\\n \r\0".utf8) + [0xFF, 0xC3, 0x1F, 0x8B]
    for _ in 0..<150 {
      var bytes = original
      for _ in 0...random(4) {
        let place = random(bytes.count)
        switch random(3) {
        case 0: bytes[place] = alphabet[random(alphabet.count)]
        case 1: bytes.insert(alphabet[random(alphabet.count)], at: place)
        default: bytes.removeSubrange(place..<min(place + 1 + random(40), bytes.count - 1))
        }
      }
      let file = try TemporaryFile(bytes, name: name)
      do {
        for row in try file.examples() {
          let location = try row.failure?.location ?? row.get().location
          #expect(location.file == file.path && location.line >= 1)
        }
      } catch let error as PreferenceFileError {
        #expect(error.description.contains(file.path))
      }
    }
  }

  @Test func rowsLongerThanABufferArriveWhole() throws {
    let texts = [300_000, 5, 700_001].map { String(repeating: "é", count: $0) }
    let rows = texts.map { #"{"prompt": "\#($0)", "chosen": "c", "rejected": "r"}"# }
    for text in [rows.joined(separator: "\n"), "[" + rows.joined(separator: ",\n") + "]"] {
      let examples = try TemporaryFile(text).examples().map { try $0.get() }
      #expect(examples.map(\.json) == texts.map { #"["\#($0)", "c", "r"]"# })
      #expect(examples.map(\.location.line) == [1, 2, 3])
    }
  }
}
