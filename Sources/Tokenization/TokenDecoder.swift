/// Steps that turn tokens back into text (`decoder` in tokenizer.json). Each maps a list of pieces to a list of pieces.
enum TokenDecoder: Sendable {
  case byteLevel
  case replace(TextPattern, with: [UInt8])
  case byteFallback
  case fuse
  case strip(content: [UInt8], start: Int, stop: Int)
  case metaspace(replacement: [UInt8], stripsFirst: Bool)

  func callAsFunction(_ pieces: [[UInt8]], _ budget: MatchBudget) -> [[UInt8]] {
    switch self {
    case .byteLevel: return [Self.wellFormed(pieces.flatMap { ByteAlphabet.decode($0) ?? $0 })]
    case .replace(let pattern, let replacement):
      return pieces.map { pattern.replacing(in: $0, with: replacement, budget) }
    case .byteFallback: return Self.joinBytes(pieces)
    case .fuse: return [Array(pieces.joined())]
    case .strip(let content, let start, let stop): return pieces.map { Self.strip($0, content, start, stop) }
    case .metaspace(let replacement, let stripsFirst):
      return pieces.enumerated().map { index, piece in
        TextPattern.literal(replacement).replacing(
          in: piece, with: index == 0 && stripsFirst ? [] : [0x20], budget)
      }
    }
  }

  /// What is not UTF-8 becomes U+FFFD, once for each maximal ill-formed part.
  static func wellFormed(_ bytes: [UInt8]) -> [UInt8] { Array(String(decoding: bytes, as: UTF8.self).utf8) }

  /// Runs of `<0xAB>` become the text they spell, or one U+FFFD per byte when they spell none.
  private static func joinBytes(_ pieces: [[UInt8]]) -> [[UInt8]] {
    var result: [[UInt8]] = []
    var run: [UInt8] = []
    func flush() {
      if run.isEmpty { return }
      if String(validating: run, as: UTF8.self) != nil {
        result.append(run)
      } else {
        result.append(contentsOf: run.map { _ in [0xEF, 0xBF, 0xBD] })
      }
      run = []
    }
    for piece in pieces {
      if let byte = byte(named: piece) {
        run.append(byte)
      } else {
        flush()
        result.append(piece)
      }
    }
    flush()
    return result
  }

  /// The byte that a token of the form `<0xAB>` stands for.
  static func byte(named piece: some Collection<UInt8>) -> UInt8? {
    guard piece.count == 6, piece.starts(with: "<0x".utf8), Array(piece)[5] == UInt8(ascii: ">") else { return nil }
    return UInt8(String(decoding: piece.dropFirst(3).prefix(2), as: UTF8.self), radix: 16)
  }

  private static func strip(_ piece: [UInt8], _ content: [UInt8], _ start: Int, _ stop: Int) -> [UInt8] {
    if content.isEmpty { return piece }
    var range = 0..<piece.count
    for _ in 0..<start {
      guard piece[range].starts(with: content) else { break }
      range = range.lowerBound + content.count..<range.upperBound
    }
    for _ in 0..<stop {
      guard range.count >= content.count, piece[range].suffix(content.count).elementsEqual(content) else { break }
      range = range.lowerBound..<range.upperBound - content.count
    }
    return Array(piece[range])
  }
}
