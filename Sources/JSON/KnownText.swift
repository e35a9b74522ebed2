// Swift's `==` and hashing of strings normalize first, which for a long run of combining marks takes a time that grows with
// the square of its length. Text from files is therefore compared as bytes, or only when it is short.

extension String {
  /// Whether these are the bytes of `known`.
  package func isText(_ known: StaticString) -> Bool {
    utf8.elementsEqual(UnsafeBufferPointer(start: known.utf8Start, count: known.utf8CodeUnitCount))
  }

  /// The text where it is short enough for a name that a program knows; nothing longer may reach `switch`,
  /// `init(rawValue:)` or a dictionary.
  package var possibleName: String? { utf8.count <= 64 ? self : nil }
}

extension JSONValue {
  /// Whether this is the string of these bytes.
  package func isText(_ known: StaticString) -> Bool { string?.isText(known) ?? false }
}
