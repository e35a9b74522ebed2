package import Collectives

/// A 64-bit checksum of values' bits: it changes with every single value and with their order.
package enum ParameterChecksum {
  /// Eight chains of xor, multiplication and rotation over words of two values; each link is a bijection, so one
  /// changed word always shows.
  package static func of(_ values: UnsafeBufferPointer<Float>) -> UInt64 {
    var chains = (
      seed(0), seed(1), seed(2), seed(3), seed(4), seed(5), seed(6), seed(7)
    )
    var index = 0
    if let start = values.baseAddress {
      let bytes = UnsafeRawPointer(start)
      func word(_ offset: Int) -> UInt64 { bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self) }
      let whole = values.count / 16 * 16
      while index < whole {
        let offset = index * 4
        chains.0 = link(chains.0, word(offset))
        chains.1 = link(chains.1, word(offset + 8))
        chains.2 = link(chains.2, word(offset + 16))
        chains.3 = link(chains.3, word(offset + 24))
        chains.4 = link(chains.4, word(offset + 32))
        chains.5 = link(chains.5, word(offset + 40))
        chains.6 = link(chains.6, word(offset + 48))
        chains.7 = link(chains.7, word(offset + 56))
        index += 16
      }
    }
    var result = seed(UInt64(values.count))
    for chain in [chains.0, chains.1, chains.2, chains.3, chains.4, chains.5, chains.6, chains.7] {
      result = link(result, chain)
    }
    while index < values.count {
      result = link(result, UInt64(values[index].bitPattern))
      index += 1
    }
    return result ^ (result >> 32)
  }

  private static func seed(_ index: UInt64) -> UInt64 { (index &+ 1) &* 0x9E37_79B9_7F4A_7C15 }

  @inline(__always)
  private static func link(_ state: UInt64, _ word: UInt64) -> UInt64 {
    let mixed = (state ^ word) &* 0xD6E8_FEB8_6659_FD93
    return mixed << 29 | mixed >> 35
  }
}

extension Communicator {
  /// Checks that all ranks hold the same parameters, bit for bit.
  ///
  /// - Throws: `RankDifference` on all ranks, naming those whose checksum differs. `MPIError`.
  package func requireSameParameters(
    _ parameters: UnsafeMutableBufferPointer<Float>, _ label: String = "parameters"
  ) throws {
    guard worldSize > 1 else { return }
    let digits = String(ParameterChecksum.of(UnsafeBufferPointer(parameters)), radix: 16)
    try requireSame(label, "checksum \(String(repeating: "0", count: 16 - digits.count))\(digits)")
  }
}
