import CJansson

/// Why a text is not JSON, and where.
package struct JSONError: Error, CustomStringConvertible, Equatable {
  package var line: Int
  package var column: Int
  package var reason: String
  package var description: String { "not valid JSON at line \(line), column \(column): \(reason)" }
}

extension JSONValue {
  /// Most values a document may hold: a value of two bytes takes some 70 in memory.
  package static let mostValues = 8 << 20

  /// Parses one document. Duplicate keys keep the last value (as Python does); nesting is limited to 2048 by the
  /// parser, the number of values to `mostValues`.
  /// - Throws: `JSONError` naming line and column.
  package init(parsing bytes: some Collection<UInt8>) throws(JSONError) {
    let parsed: Result<JSONValue, JSONError>? = bytes.withContiguousStorageIfAvailable(Self.parse)
    self = try (parsed ?? Array(bytes).withUnsafeBufferPointer(Self.parse)).get()
  }

  package init(parsing text: String) throws(JSONError) { try self.init(parsing: Array(text.utf8)) }

  private static func parse(_ bytes: UnsafeBufferPointer<UInt8>) -> Result<JSONValue, JSONError> {
    if bytes.count > 2 * mostValues, let place = Self.firstBeyondLimit(bytes) {
      let head = bytes[..<place]
      let lineStart = head.lastIndex(of: 0x0A).map { $0 + 1 } ?? 0
      let reason = "more than \(mostValues) values"
      return .failure(
        JSONError(line: head.count { $0 == 0x0A } + 1, column: place - lineStart + 1, reason: reason))
    }
    var error = json_error_t()
    // JSON_ALLOW_NUL: "\u0000" is legal in strings and occurs in vocabularies.
    let flags = Int(JSON_DECODE_ANY) | Int(JSON_ALLOW_NUL)
    let start = bytes.baseAddress.map { UnsafeRawPointer($0).assumingMemoryBound(to: CChar.self) }
    var parsed = start.flatMap { json_loadb($0, bytes.count, flags, &error) }
    if parsed == nil, let start, error.isTooBigInteger {
      // Integers beyond 64 bits are legal (transformers writes 1e30 as one): then all numbers are read as doubles.
      parsed = json_loadb(start, bytes.count, flags | Int(JSON_DECODE_INT_AS_REAL), &error)
    }
    guard let root = parsed else {
      if bytes.isEmpty { return .failure(JSONError(line: 1, column: 0, reason: "the text is empty")) }
      let reason = withUnsafeBytes(of: &error.text) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
      return .failure(JSONError(line: Int(error.line), column: Int(error.column), reason: reason))
    }
    defer { orpo_json_release(root) }
    return .success(value(root))
  }

  /// Where the values outnumber `mostValues`: every value but the first of a list or object follows a comma.
  private static func firstBeyondLimit(_ bytes: UnsafeBufferPointer<UInt8>) -> Int? {
    var values = 1
    var inString = false
    var index = 0
    while index < bytes.count {
      switch bytes[index] {
      case UInt8(ascii: "\""): inString.toggle()
      case UInt8(ascii: "\\") where inString: index += 1
      case UInt8(ascii: ","), UInt8(ascii: "["), UInt8(ascii: "{"):
        if !inString { values += 1 }
        if values > mostValues { return index }
      default: break
      }
      index += 1
    }
    return nil
  }

  private static func value(_ json: UnsafeMutablePointer<json_t>) -> JSONValue {
    switch json.pointee.type {
    case JSON_OBJECT:
      var members: [(key: String, value: JSONValue)] = []
      members.reserveCapacity(json_object_size(json))
      var iterator = json_object_iter(json)
      while let current = iterator {
        let key = UnsafeRawPointer(json_object_iter_key(current)!)
        let bytes = UnsafeRawBufferPointer(start: key, count: json_object_iter_key_len(current))
        members.append((String(decoding: bytes, as: UTF8.self), value(json_object_iter_value(current)!)))
        iterator = json_object_iter_next(json, current)
      }
      return .object(JSONObject(members))
    case JSON_ARRAY: return .array((0..<json_array_size(json)).map { value(json_array_get(json, $0)!) })
    case JSON_STRING:
      let bytes = UnsafeRawBufferPointer(start: json_string_value(json), count: json_string_length(json))
      return .string(String(decoding: bytes, as: UTF8.self))
    case JSON_INTEGER: return .integer(Int(json_integer_value(json)))
    case JSON_REAL: return .double(json_real_value(json))
    case JSON_TRUE: return .bool(true)
    case JSON_FALSE: return .bool(false)
    default: return .null
    }
  }
}

extension json_error_t {
  /// Jansson keeps the kind of error in the last byte of its text.
  fileprivate var isTooBigInteger: Bool {
    withUnsafeBytes(of: text) { $0.last == UInt8(json_error_numeric_overflow.rawValue) }
  }
}
