import Foundation
import JSON
import ModelFiles

/// Files of an output folder as an onlooker reads them: they may be missing, half written, huge, or not what their name
/// says, and are then named, never trusted.
enum WatchedFile {
  /// The most of a file that is read at once, and of a line.
  static let sizeLimit = 16 << 20
  static let lineLimit = 1 << 20

  /// The whole file; nil when it is missing.
  static func contents(_ path: String, limit: Int = sizeLimit) throws -> [UInt8]? {
    guard let file = try open(path) else { return nil }
    guard file.size <= limit else {
      throw WatchedFileError("\(path): \(file.size) bytes are too many; at most \(limit) are read")
    }
    return try file.contents()
  }

  /// A file of one JSON document, its texts cleaned; nil when it is missing.
  static func json(_ path: String) throws -> JSONValue? {
    guard let bytes = try contents(path) else { return nil }
    do { return try JSONValue(parsing: bytes).cleaned } catch {
      throw WatchedFileError("\(path): \(error)")
    }
  }

  /// What `lines` passed over.
  struct Skipped {
    var lines = 0
    var firstLine: Int?
    var reason = ""

    fileprivate mutating func add(_ line: Int, _ reason: @autoclosure () -> String) {
      lines += 1
      guard firstLine == nil else { return }
      (firstLine, self.reason) = (line, reason())
    }
  }

  /// Hands on the JSON object of every line, a block of the file at a time. A last line without an end is one that is
  /// being written, and not yet there.
  /// - Returns: nil when the file is missing.
  static func lines(_ path: String, each: (JSONValue) -> Void) throws -> Skipped? {
    guard let file = try open(path) else { return nil }
    var skipped = Skipped()
    var pending: [UInt8] = []
    var isTooLong = false
    var number = 0
    var offset = 0
    while offset < file.size {
      let block = try file.bytes(at: offset, count: min(1 << 18, file.size - offset))
      offset += block.count
      var rest = block[...]
      while let end = rest.firstIndex(of: UInt8(ascii: "\n")) {
        number += 1
        pending += rest[..<end]
        rest = rest[(end + 1)...]
        defer {
          pending.removeAll(keepingCapacity: true)
          isTooLong = false
        }
        if isTooLong || pending.count > lineLimit {
          skipped.add(number, "longer than \(lineLimit) bytes")
          continue
        }
        if pending.allSatisfy({ $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\r") }) { continue }
        do {
          let value = try JSONValue(parsing: pending)
          if value.object == nil { skipped.add(number, "expected an object, found \(value.typeName)") }
          each(value)
        } catch { skipped.add(number, error.reason) }
      }
      pending += rest
      if pending.count > lineLimit {
        isTooLong = true
        pending.removeAll(keepingCapacity: true)
      }
    }
    return skipped
  }

  private static func open(_ path: String) throws(FileError) -> ReadableFile? {
    do { return try ReadableFile(path: path) } catch {
      if error.code == ENOENT { return nil }
      throw error
    }
  }
}

/// Why a file of a run could not be read.
struct WatchedFileError: Error, CustomStringConvertible {
  var description: String
  init(_ description: String) { self.description = description }
}

extension String {
  /// On one line and without characters that would command a terminal or turn the direction of text; at most 2000.
  package var cleaned: String {
    var text = ""
    for scalar in unicodeScalars.prefix(2000) {
      switch scalar.properties.generalCategory {
      case .lineSeparator, .paragraphSeparator: text += " "
      case .control: text += scalar == "\n" || scalar == "\t" ? " " : "\u{FFFD}"
      case .format, .surrogate, .unassigned: text += "\u{FFFD}"
      default: text.unicodeScalars.append(scalar)
      }
    }
    return text
  }
}

extension JSONValue {
  /// The same with all texts and keys cleaned.
  var cleaned: JSONValue {
    switch self {
    case .string(let text): .string(text.cleaned)
    case .array(let elements): .array(elements.map(\.cleaned))
    case .object(let object): .object(JSONObject(object.members.map { ($0.key.cleaned, $0.value.cleaned) }))
    default: self
    }
  }
}
