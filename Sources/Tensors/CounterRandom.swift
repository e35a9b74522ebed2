#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

/// Random numbers as a pure function of (seed, stream, counter): the same on every rank and after every resume, with no
/// state to save but the counter. The mixing function is SplitMix64's finaliser applied twice.
package struct CounterRandom: RandomNumberGenerator, Sendable {
  private let key: UInt64
  package private(set) var counter: UInt64

  package init(seed: UInt64, stream: UInt64, counter: UInt64 = 0) {
    key = Self.mix(seed &+ 0x9E37_79B9_7F4A_7C15) ^ Self.mix(stream &* 0xD1B5_4A32_D192_ED03 &+ 0x8CB9_2BA7_2F3D_8DD7)
    self.counter = counter
  }

  package mutating func next() -> UInt64 {
    defer { counter &+= 1 }
    return Self.mix(Self.mix(counter &* 0x9E37_79B9_7F4A_7C15 &+ key) ^ key)
  }

  /// Uniform in [0, 1) with 24 bits.
  package mutating func uniform() -> Float { Float(next() >> 40) * 0x1p-24 }

  /// Standard normal (Box and Muller's transform of two uniforms).
  package mutating func normal() -> Float {
    let radius = max(Double(next() >> 11) * 0x1p-53, 0x1p-53)
    let angle = Double(next() >> 11) * 0x1p-53
    return Float((-2 * log(radius)).squareRoot() * cos(2 * .pi * angle))
  }

  private static func mix(_ value: UInt64) -> UInt64 {
    var z = value
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}
