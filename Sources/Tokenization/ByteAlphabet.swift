/// GPT-2's printable alphabet: every byte is written as one character, so that a vocabulary of text can hold any bytes.
///
/// Printable Latin-1 bytes stand for themselves; the other 68 are written as U+0100 onwards, in byte order (GPT-2's
/// `bytes_to_unicode`).
enum ByteAlphabet {
  /// The scalar that stands for each byte.
  static let scalars: [Unicode.Scalar] = {
    var next: UInt32 = 0x100
    return (UInt8.min...UInt8.max).map { byte in
      if (0x21...0x7E).contains(byte) || (0xA1...0xAC).contains(byte) || byte >= 0xAE { return Unicode.Scalar(byte) }
      defer { next += 1 }
      return Unicode.Scalar(next) ?? " "
    }
  }()

  /// The UTF-8 of each byte's scalar.
  static let encoded: [[UInt8]] = scalars.map { Array(String($0).utf8) }

  /// The byte a scalar stands for, by scalar value; -1 for scalars outside the alphabet.
  private static let bytes: [Int16] = {
    var table = [Int16](repeating: -1, count: 0x180)
    for (byte, scalar) in scalars.enumerated() { table[Int(scalar.value)] = Int16(byte) }
    return table
  }()

  static func byte(of scalar: UInt32) -> UInt8? {
    guard scalar < bytes.count, bytes[Int(scalar)] >= 0 else { return nil }
    return UInt8(bytes[Int(scalar)])
  }

  static func encode(_ raw: some Sequence<UInt8>) -> [UInt8] { raw.flatMap { encoded[Int($0)] } }

  /// The bytes that `text` (UTF-8) stands for, or nil when a character is outside the alphabet.
  static func decode(_ text: some Collection<UInt8>) -> [UInt8]? {
    var raw: [UInt8] = []
    raw.reserveCapacity(text.count)
    var iterator = text.makeIterator()
    while let first = iterator.next() {
      if first < 0x80 {
        guard let byte = byte(of: UInt32(first)) else { return nil }
        raw.append(byte)
      } else {
        // The alphabet ends at U+0143: two UTF-8 bytes at most.
        guard first & 0xE0 == 0xC0, let second = iterator.next(),
          let byte = byte(of: UInt32(first & 0x1F) << 6 | UInt32(second & 0x3F))
        else { return nil }
        raw.append(byte)
      }
    }
    return raw
  }
}
