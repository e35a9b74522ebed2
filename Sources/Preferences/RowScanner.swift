#if canImport(Glibc)
  internal import Glibc
#else
  internal import Musl
#endif

/// The bytes of one row and where it begins, or why there is no row there.
struct SourceRow: Sendable {
  var location: RowLocation
  var bytes: Result<[UInt8], DataDefect>
}

/// Cuts a file into rows without parsing them: one object a line, or the elements of one array. Memory is bounded by
/// the longest row.
struct RowScanner {
  private enum Form { case lines, array, done }

  private let path: String
  private let rowLimit: Int
  private let file: InputFile
  private var form = Form.lines
  private var buffer: [UInt8] = []
  private var start = 0
  private var line = 1
  private var atEnd = false
  private var isFirstElement = true
  private var isAfterComma = false
  /// White space before the first other byte of the current line.
  private var indentation = 0

  init(path: String, rowLimit: Int) throws(PreferenceFileError) {
    self.path = path
    self.rowLimit = rowLimit
    file = try InputFile(path: path)
    try detectForm()
  }

  /// The next row or defect, nil at the end.
  mutating func next() throws(PreferenceFileError) -> SourceRow? {
    switch form {
    case .lines: try nextLine()
    case .array: try nextElement()
    case .done: nil
    }
  }

  private static let chunk = 1 << 18
  private static func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || (0x09...0x0D).contains(byte) }

  private mutating func refill() throws(PreferenceFileError) {
    if start > 0 {
      buffer.removeFirst(start)
      start = 0
    }
    let used = buffer.count
    var count = 0
    var failure: PreferenceFileError?
    buffer.reserveCapacity(used + Self.chunk)
    buffer.append(contentsOf: repeatElement(0, count: Self.chunk))
    buffer.withUnsafeMutableBufferPointer { space in
      do throws(PreferenceFileError) {
        count = try file.read(into: UnsafeMutableBufferPointer(rebasing: space[used...]))
      } catch { failure = error }
    }
    buffer.removeLast(Self.chunk - count)
    atEnd = count == 0
    if let failure { throw failure }
  }

  /// Moves `start` to the next byte that is not white space; false at the end of the file.
  private mutating func skipSpace() throws(PreferenceFileError) -> Bool {
    while true {
      while start < buffer.count, Self.isSpace(buffer[start]) {
        if buffer[start] == 0x0A {
          line += 1
          indentation = 0
        } else {
          indentation += 1
        }
        start += 1
      }
      if start < buffer.count { return true }
      if atEnd { return false }
      try refill()
    }
  }

  private mutating func detectForm() throws(PreferenceFileError) {
    while buffer.count < 4096 && !atEnd { try refill() }
    if buffer.starts(with: [0xEF, 0xBB, 0xBF]) { start = 3 }
    guard try skipSpace() else { throw .empty(file: path) }
    let name = path.lowercased()
    let isLines = name.contains(".jsonl") || name.contains(".ndjson")
    if buffer[start] == UInt8(ascii: "[") {
      // In a file of lines a list is a defect of one line, unless it plainly is an array of rows.
      let following = buffer[(start + 1)...].first { !Self.isSpace($0) }
      form = isLines && following != UInt8(ascii: "{") && following != nil ? .lines : .array
      if form == .array { start += 1 }
    } else if buffer[start] == UInt8(ascii: "{"), !isLines, name.contains(".json") {
      let following = buffer[(start + 1)...].first { $0 != 0x20 && $0 != 0x09 && $0 != 0x0D }
      if following == 0x0A {
        throw .unsupportedContent(
          file: path, content: "a single JSON object over several lines",
          advice: "expected an array of rows, or one object a line")
      }
    }
  }

  private mutating func nextLine() throws(PreferenceFileError) -> SourceRow? {
    while true {
      var searched = start
      var end: Int?
      while true {
        end = buffer.withUnsafeBufferPointer { bytes -> Int? in
          guard searched < bytes.count, let base = bytes.baseAddress,
            let found = memchr(base + searched, 0x0A, bytes.count - searched)
          else { return nil }
          return UnsafeRawPointer(found) - UnsafeRawPointer(base)
        }
        if (end ?? buffer.count) - start > rowLimit { throw .rowTooLong(file: path, line: line, limit: rowLimit) }
        if end != nil || atEnd { break }
        let pending = buffer.count - start
        try refill()
        searched = start + pending
      }
      if end == nil && start == buffer.count {
        form = .done
        return nil
      }
      let content = buffer[start..<(end ?? buffer.count)]
      let location = RowLocation(file: path, line: line)
      let isBlank = content.allSatisfy(Self.isSpace)
      let bytes = isBlank ? [] : Array(content)
      start = end.map { $0 + 1 } ?? buffer.count
      line += 1
      if !isBlank { return SourceRow(location: location, bytes: .success(bytes)) }
    }
  }

  private mutating func nextElement() throws(PreferenceFileError) -> SourceRow? {
    guard try skipSpace() else {
      form = .done
      return defect("the array is not closed: ']' is missing at the end of the file")
    }
    if buffer[start] == UInt8(ascii: "]") {
      if isAfterComma {
        isAfterComma = false
        return defect("a comma without a row after it")
      }
      start += 1
      let wasFirst = isFirstElement
      form = .done
      if try skipSpace() { return defect("text after the end of the array") }
      if wasFirst { throw .empty(file: path) }
      return nil
    }
    isFirstElement = false
    let location = RowLocation(file: path, line: line)
    var offset = 0
    var depth = 0
    var inString = false
    while true {
      if start + offset == buffer.count {
        if offset > rowLimit { throw .rowTooLong(file: path, line: location.line, limit: rowLimit) }
        if !atEnd { try refill() }
        if start + offset == buffer.count {
          if depth == 0 && !inString { return try endElement(location, offset, closes: true) }
          start = buffer.count
          form = .done
          let reason = "the row that begins here is not closed before the end of the file"
          return SourceRow(location: location, bytes: .failure(DataDefect(.malformedJSON, at: location, reason)))
        }
      }
      let byte = buffer[start + offset]
      if inString {
        switch byte {
        case UInt8(ascii: "\\"): if try isEscape(offset) { offset += 1 }
        case UInt8(ascii: "\""): inString = false
        case 0x0A:
          // A string cannot hold a raw line end. Giving the row up here keeps one missing quote from swallowing the
          // rows after it.
          let reason = "malformed JSON: a string is not closed on line \(line)"
          start += offset
          try skipToNextRow(indentation)
          return SourceRow(location: location, bytes: .failure(DataDefect(.malformedJSON, at: location, reason)))
        default: break
        }
      } else {
        switch byte {
        case UInt8(ascii: "\""): inString = true
        case UInt8(ascii: "{"), UInt8(ascii: "["): depth += 1
        case UInt8(ascii: ","), UInt8(ascii: "]"):
          if depth == 0 { return try endElement(location, offset, closes: byte == UInt8(ascii: "]")) }
          if byte == UInt8(ascii: "]") { depth -= 1 }
        case UInt8(ascii: "}"): depth = max(depth - 1, 0)
        default: break
        }
      }
      if byte == 0x0A { line += 1 }
      offset += 1
    }
  }

  /// Whether the backslash at `offset` hides the byte after it. A line end is never hidden.
  private mutating func isEscape(_ offset: Int) throws(PreferenceFileError) -> Bool {
    if start + offset + 1 == buffer.count && !atEnd { try refill() }
    return start + offset + 1 < buffer.count && buffer[start + offset + 1] != 0x0A
  }

  /// Moves on to the next line that begins as the broken row's line did, or closes the array.
  private mutating func skipToNextRow(_ expected: Int) throws(PreferenceFileError) {
    isAfterComma = false
    while true {
      while start < buffer.count, buffer[start] != 0x0A { start += 1 }
      if start == buffer.count {
        if atEnd { return }
        try refill()
        continue
      }
      guard try skipSpace() else { return }
      let byte = buffer[start]
      if byte == UInt8(ascii: "{") && indentation == expected { return }
      if byte == UInt8(ascii: "]") && indentation <= expected { return }
    }
  }

  private mutating func endElement(
    _ location: RowLocation, _ length: Int, closes: Bool
  ) throws(PreferenceFileError) -> SourceRow? {
    guard length <= rowLimit else { throw .rowTooLong(file: path, line: location.line, limit: rowLimit) }
    let bytes = Array(buffer[start..<(start + length)])
    // A closing bracket is left in place, to be seen by the next call.
    start += closes ? length : length + 1
    isAfterComma = !closes
    if bytes.allSatisfy(Self.isSpace) {
      let reason = "a comma without a row before it"
      return SourceRow(location: location, bytes: .failure(DataDefect(.malformedJSON, at: location, reason)))
    }
    return SourceRow(location: location, bytes: .success(bytes))
  }

  private func defect(_ reason: String) -> SourceRow {
    let location = RowLocation(file: path, line: line)
    return SourceRow(location: location, bytes: .failure(DataDefect(.malformedJSON, at: location, reason)))
  }
}
