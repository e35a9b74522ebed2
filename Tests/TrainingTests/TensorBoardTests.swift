import Foundation
import Testing
import Training

/// Reads event files independently of the writer: frames with their checksums, and the few protobuf fields.
private struct EventReader {
  struct Event {
    var wallTime = 0.0
    var step = 0
    var version: String?
    var isStart = false
    var scalars: [String: Float] = [:]
    var texts: [String: String] = [:]
  }

  struct Damage: Error {}

  static func events(_ path: String) throws -> [Event] {
    var rest = [UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))[...]
    var events: [Event] = []
    while !rest.isEmpty {
      let length = rest.prefix(8)
      guard rest.count >= 16, number(rest.dropFirst(8).prefix(4)) == UInt64(CRC32C.masked(length)) else {
        throw Damage()
      }
      let count = Int(number(length))
      let record = rest.dropFirst(12).prefix(count)
      guard number(rest.dropFirst(12 + count).prefix(4)) == UInt64(CRC32C.masked(record)) else { throw Damage() }
      events.append(try event(record))
      rest = rest.dropFirst(16 + count)
    }
    return events
  }

  private static func number(_ bytes: ArraySlice<UInt8>) -> UInt64 {
    bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) }
  }

  /// Fields of a message: number, and its value as an integer or its bytes.
  private static func fields(_ message: ArraySlice<UInt8>) throws -> [(Int, UInt64, ArraySlice<UInt8>)] {
    var rest = message
    func varint() throws -> UInt64 {
      var (value, shift) = (UInt64(0), UInt64(0))
      while let byte = rest.popFirst() {
        value |= UInt64(byte & 0x7f) << shift
        shift += 7
        if byte < 0x80 { return value }
      }
      throw Damage()
    }
    var result: [(Int, UInt64, ArraySlice<UInt8>)] = []
    while !rest.isEmpty {
      let key = try varint()
      var (value, bytes) = (UInt64(0), ArraySlice<UInt8>())
      switch key & 7 {
      case 0: value = try varint()
      case 1, 5:
        let width = key & 7 == 1 ? 8 : 4
        value = number(rest.prefix(width))
        rest = rest.dropFirst(width)
      case 2:
        let count = Int(try varint())
        bytes = rest.prefix(count)
        rest = rest.dropFirst(count)
      default: throw Damage()
      }
      result.append((Int(key >> 3), value, bytes))
    }
    return result
  }

  private static func event(_ record: ArraySlice<UInt8>) throws -> Event {
    var event = Event()
    for (field, value, bytes) in try fields(record) {
      switch field {
      case 1: event.wallTime = Double(bitPattern: value)
      case 2: event.step = Int(value)
      case 3: event.version = String(decoding: bytes, as: UTF8.self)
      case 5:
        for (_, _, value) in try fields(bytes) {
          var tag = ""
          for (field, number, bytes) in try fields(value) {
            if field == 1 { tag = String(decoding: bytes, as: UTF8.self) }
            if field == 2 { event.scalars[tag] = Float(bitPattern: UInt32(number)) }
            if field == 8, let text = try fields(bytes).first(where: { $0.0 == 8 })?.2 {
              event.texts[tag] = String(decoding: text, as: UTF8.self)
            }
          }
        }
      case 7: event.isStart = try fields(bytes).contains { $0.0 == 1 && $0.1 == 1 }
      default: throw Damage()
      }
    }
    return event
  }
}

private func files(_ directory: String) throws -> [String] {
  try FileManager.default.contentsOfDirectory(atPath: directory).sorted().map { directory + "/" + $0 }
}

@Suite struct TensorBoardTests {
  @Test(arguments: [
    ("", 0), ("a", 0xC1D0_4330), ("123456789", 0xE306_9283), (String(repeating: "\0", count: 32), 0x8A91_36AA),
  ])
  func checksumsAreCastagnoli(_ text: String, value: Int) {
    #expect(CRC32C.checksum(text.utf8) == UInt32(value))
  }

  @Test(arguments: [
    ("loss", "train/loss"), ("rewards/chosen", "train/rewards/chosen"), ("eval_loss", "eval/loss"),
    ("eval_rewards/margins", "eval/rewards/margins"), ("evaluation", "train/evaluation"),
  ])
  func tagsAreThoseOfTransformers(_ metric: String, tag: String) {
    #expect(TensorBoardSink.tag(metric) == tag)
  }

  @Test func scalarsAndTextReadBack() throws {
    try withTemporaryDirectory { directory in
      let sink = try TensorBoardSink(directory: directory + "/runs", resumingAt: nil)
      try sink.write(text: "a: 1\nb: 2", tag: "configuration")
      try sink.write(LogEntry(step: 10, epoch: 0.5, metrics: [.init("loss", 1.25), .init("eval_loss", 2)]))
      try sink.write(LogEntry(step: 20, epoch: 1, metrics: [.init("loss", .nan)]))
      try sink.finish()

      let file = try #require(files(sink.directory).first)
      let parts = try #require(file.split(separator: "/").last).split(separator: ".")
      #expect(parts.prefix(3) == ["events", "out", "tfevents"])
      #expect(parts.suffix(2) == ["\(getpid())", "0"])
      let events = try EventReader.events(file)
      #expect(events.count == 4)
      #expect(events[0].version == "brain.Event:2")
      #expect(events[1].texts == ["configuration/text_summary": "    a: 1\n    b: 2"])
      #expect(events[2].step == 10 && events[2].scalars == ["train/loss": 1.25, "eval/loss": 2])
      #expect(abs(events[2].wallTime - Date().timeIntervalSince1970) < 3600)
      #expect(events[3].step == 20 && events[3].scalars["train/loss"]?.isNaN == true)
    }
  }

  @Test func resumingGoesOnInTheNewestRun() throws {
    try withTemporaryDirectory { directory in
      for (age, name) in [(3000.0, "Dec31_old"), (10, "Jan01_new"), (2000, "Nov11_older")] {
        let path = directory + "/" + name
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        let date = Date(timeIntervalSinceNow: -age)
        try FileManager.default.setAttributes([.modificationDate: date], ofItemAtPath: path)
      }
      let sink = try TensorBoardSink(directory: directory, resumingAt: 7)
      #expect(sink.directory == directory + "/Jan01_new")
      let events = try EventReader.events(try #require(files(sink.directory).first))
      #expect(events.map(\.isStart) == [false, true])
      #expect(events[1].step == 8)
      #expect(
        try TensorBoardSink(directory: directory + "/none", resumingAt: 7).directory.hasPrefix(directory + "/none/"))
    }
  }
}
