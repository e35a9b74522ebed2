/// Views of UTF-8 text that steps of the pipeline pass on; always valid UTF-8 unless said otherwise.
typealias Bytes = UnsafeBufferPointer<UInt8>

extension UnsafeBufferPointer<UInt8> {
  /// The scalar that starts at `index` and its length in bytes. The bytes come from a Swift string, so they are
  /// well-formed.
  @inline(__always)
  func scalar(at index: Int) -> (value: UInt32, length: Int) {
    let first = self[index]
    if first < 0x80 { return (UInt32(first), 1) }
    if first < 0xE0 { return (UInt32(first & 0x1F) << 6 | UInt32(self[index + 1] & 0x3F), 2) }
    if first < 0xF0 {
      return (UInt32(first & 0x0F) << 12 | UInt32(self[index + 1] & 0x3F) << 6 | UInt32(self[index + 2] & 0x3F), 3)
    }
    let high = UInt32(first & 0x07) << 18 | UInt32(self[index + 1] & 0x3F) << 12
    return (high | UInt32(self[index + 2] & 0x3F) << 6 | UInt32(self[index + 3] & 0x3F), 4)
  }

  /// Where the scalar that ends before `index` starts.
  @inline(__always)
  func scalarStart(before index: Int) -> Int {
    var start = index - 1
    while start > 0, self[start] & 0xC0 == 0x80 { start -= 1 }
    return start
  }

  @inline(__always)
  subscript(bytes range: Range<Int>) -> Bytes { Bytes(rebasing: self[range]) }
}

/// Bytes in a scalar's UTF-8 form, from its first byte.
@inline(__always)
func utf8Length(_ first: UInt8) -> Int { first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4 }
