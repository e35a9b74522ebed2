package import JSON

/// A row that was understood, before any template or tokenizer.
package struct PreferenceExample: Sendable {
  package enum Content: Sendable {
    case text(prompt: String, chosen: String, rejected: String)
    /// Messages are objects with `role` and `content`. `templateArguments` are further variables for the chat template.
    case messages(
      prompt: [JSONValue], chosen: [JSONValue], rejected: [JSONValue], templateArguments: JSONObject)
  }

  package var location: RowLocation
  package var content: Content

  package init(location: RowLocation, content: Content) {
    self.location = location
    self.content = content
  }
}

/// Text handed to the tokenizer: the completions begin where the prompt ends.
package struct PreferenceText: Sendable, Equatable {
  package var prompt: String
  package var chosen: String
  package var rejected: String

  package init(prompt: String, chosen: String, rejected: String) {
    self.prompt = prompt
    self.chosen = chosen
    self.rejected = rejected
  }

  // Swift's `==` would take a composed and a decomposed accent for the same text.
  package static func == (a: Self, b: Self) -> Bool {
    a.prompt.hasSameBytes(as: b.prompt) && a.chosen.hasSameBytes(as: b.chosen)
      && a.rejected.hasSameBytes(as: b.rejected)
  }
}

extension String {
  func hasSameBytes(as other: String) -> Bool { utf8.elementsEqual(other.utf8) }

  /// Bytes of the longest common beginning with `other` that ends between two Unicode scalars (Python's characters).
  func commonPrefixLength(with other: String) -> Int {
    var a = self
    var b = other
    return a.withUTF8 { a in
      b.withUTF8 { b in
        var length = 0
        let shorter = min(a.count, b.count)
        while length < shorter && a[length] == b[length] { length += 1 }
        func isInsideScalar(_ text: UnsafeBufferPointer<UInt8>) -> Bool {
          length < text.count && text[length] & 0xC0 == 0x80
        }
        while length > 0 && (isInsideScalar(a) || isInsideScalar(b)) { length -= 1 }
        return length
      }
    }
  }

  /// The text before and from byte `offset`, which lies between two scalars.
  func split(atByte offset: Int) -> (before: String, after: String) {
    let index = utf8.index(utf8.startIndex, offsetBy: offset)
    return (String(self[..<index]), String(self[index...]))
  }
}

extension JSONValue {
  /// Equality as Python's `==` has it for parsed JSON: the order of an object's members does not count.
  func isSame(as other: JSONValue) -> Bool {
    switch (self, other) {
    case (.null, .null): true
    case (.bool(let a), .bool(let b)): a == b
    case (.integer(let a), .integer(let b)): a == b
    case (.integer, .double), (.double, .integer), (.double, .double): double == other.double
    case (.string(let a), .string(let b)): a.hasSameBytes(as: b)
    case (.array(let a), .array(let b)): a.count == b.count && zip(a, b).allSatisfy { $0.isSame(as: $1) }
    case (.object(let a), .object(let b)):
      a.members.count == b.members.count
        && zip(a.byKey, b.byKey).allSatisfy { $0.key.hasSameBytes(as: $1.key) && $0.value.isSame(as: $1.value) }
    default: false
    }
  }
}

extension JSONObject {
  /// Members in the order of their keys' bytes: a row may have very many.
  fileprivate var byKey: [(key: String, value: JSONValue)] {
    members.sorted { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) }
  }
}
