import JSON
import Testing

@Suite struct JSONTests {
  @Test func keysThatOnlyLookEqualStayApart() throws {
    let value = try JSONValue(parsing: "{\"e\u{301}\": 1, \"\u{e9}\": 2}")
    #expect(value.object?.members.count == 2)
    #expect(value["e\u{301}"]?.integer == 1)
    #expect(value["\u{e9}"]?.integer == 2)
  }

  @Test(arguments: [
    "null", "true", "[1, -2, 2.5, \"a\\nb\\u0000c\", {\"k\": []}]",
    "{\"a\": {\"b\": [1, 2]}, \"c\": \"\u{1F469}\u{200D}\u{1F467}\"}",
  ])
  func textComesBackAsItWas(_ text: String) throws {
    #expect(try JSONValue(parsing: text).serialized() == text)
    #expect(try JSONValue(parsing: try JSONValue(parsing: text).serialized(indent: 2)).serialized() == text)
  }

  @Test(arguments: [("", 1), ("{\"a\": }", 1), ("[1,\n2,\n", 3), ("\"\\ud800\"", 1), ("{} {}", 1), ("nan", 1)])
  func whatIsNotJSONIsNamedByLine(_ text: String, line: Int) {
    #expect { try JSONValue(parsing: text) } throws: { ($0 as? JSONError)?.line == line }
  }

  @Test func integersBeyond64BitsAreReadAsDoubles() throws {
    let value = try JSONValue(parsing: "{\"model_max_length\": 1000000000000000019884624838656, \"small\": 3}")
    #expect(value["model_max_length"]?.double == 1e30)
    #expect(value["model_max_length"]?.integer == nil)
    #expect(value["small"]?.integer == 3)
  }

  @Test func bytesThatAreNotUTF8AreRefused() {
    #expect(throws: JSONError.self) { try JSONValue(parsing: [0x22, 0xFF, 0x22]) }
  }

  @Test func deepNestingIsAnErrorNotACrash() {
    #expect(throws: JSONError.self) { try JSONValue(parsing: String(repeating: "[", count: 1_000_000)) }
  }

  /// Small values take many times their bytes in memory, so their number is bounded, not only their bytes.
  @Test func theNumberOfValuesIsBounded() throws {
    let many = Array(("[" + String(repeating: "0,", count: JSONValue.mostValues) + "0]").utf8)
    let error = #expect(throws: JSONError.self) { try JSONValue(parsing: many) }
    #expect(error?.reason.contains("\(JSONValue.mostValues) values") == true)
    // Commas of a text are none between values.
    let text = Array(("[\"" + String(repeating: ",\\\"", count: JSONValue.mostValues) + "\"]").utf8)
    #expect(try JSONValue(parsing: text).array?.count == 1)
  }

  @Test func nestingIsBounded() {
    #expect(throws: JSONError.self) {
      try JSONValue(parsing: String(repeating: "[", count: 1_000_000) + String(repeating: "]", count: 1_000_000))
    }
  }
}
