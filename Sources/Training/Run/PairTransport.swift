package import Packing

/// Token ids of pairs as bytes, so that only rank 0 reads and tokenizes the data and all ranks hold the same.
package enum PairTransport {
  /// 32-bit words: count, then for each pair its lengths, prompt lengths and ids.
  package static func encode(_ pairs: [TokenizedPair]) -> [UInt8] {
    var words: [Int32] = [Int32(pairs.count)]
    words.reserveCapacity(1 + pairs.reduce(0) { $0 + 4 + $1.chosen.count + $1.rejected.count })
    for pair in pairs {
      words += [
        Int32(pair.chosen.count), Int32(pair.rejected.count), Int32(pair.chosenPromptLength),
        Int32(pair.rejectedPromptLength),
      ]
      words += pair.chosen
      words += pair.rejected
    }
    return words.withUnsafeBytes { Array($0) }
  }

  /// - Precondition: the bytes are from `encode` on a machine of the same byte order.
  package static func decode(_ bytes: [UInt8]) -> [TokenizedPair] {
    bytes.withUnsafeBytes { bytes in
      var offset = 0
      func next() -> Int {
        defer { offset += 4 }
        return Int(bytes.loadUnaligned(fromByteOffset: offset, as: Int32.self))
      }
      func take(_ count: Int) -> [Int32] { (0..<count).map { _ in Int32(next()) } }
      return (0..<next()).map { _ in
        let (chosen, rejected, chosenPrompt, rejectedPrompt) = (next(), next(), next(), next())
        return TokenizedPair(
          chosen: take(chosen), rejected: take(rejected), chosenPromptLength: chosenPrompt,
          rejectedPromptLength: rejectedPrompt)
      }
    }
  }
}
