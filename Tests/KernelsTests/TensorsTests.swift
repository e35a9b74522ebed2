import Foundation
import Tensors
import Testing

@Suite struct FloatFormatsTests {
  @Test func everyBFloat16IsTheUpperHalfOfAFloat() {
    for bits in UInt16.min...UInt16.max {
      let value = FloatFormats.float(bfloat16: bits)
      if value.bitPattern != UInt32(bits) << 16 { Issue.record("\(bits)") }
      let back = FloatFormats.bfloat16(value)
      if value.isNaN {
        if !FloatFormats.float(bfloat16: back).isNaN { Issue.record("NaN \(bits) became \(back)") }
      } else if back != bits {
        Issue.record("\(bits) became \(back)")
      }
    }
  }

  @Test func everyFloat16IsSwifts() {
    for bits in UInt16.min...UInt16.max {
      let value = FloatFormats.float(float16: bits)
      let expected = Float(Float16(bitPattern: bits))
      let back = FloatFormats.float16(value)
      if expected.isNaN {
        if !value.isNaN || !FloatFormats.float(float16: back).isNaN { Issue.record("NaN \(bits)") }
      } else if value.bitPattern != expected.bitPattern || back != bits {
        Issue.record("\(bits): \(value) instead of \(expected), and back \(back)")
      }
    }
  }

  /// Between each two neighbours: their middle goes to the even one, what is beside it to the nearer one. The last pair
  /// is the largest finite number and infinity, which stands for the number that would follow.
  @Test func roundingIsToNearestTiesToEven() {
    func check(
      _ largest: UInt16, _ follows: Double, _ decode: (UInt16) -> Float, _ encode: (Float) -> UInt16, _ name: String
    ) {
      for bits in 0...largest {
        let next = bits == largest ? follows : Double(decode(bits + 1))
        let middle = Float((Double(decode(bits)) + next) / 2)
        let even = bits % 2 == 0 ? bits : bits + 1
        for sign in [UInt16(0), 0x8000] {
          let factor: Float = sign == 0 ? 1 : -1
          let found = [middle.nextDown, middle, middle.nextUp].map { encode($0 * factor) }
          if found != [bits, even, bits + 1].map({ $0 | sign }) { Issue.record("\(name) \(bits): \(found)") }
        }
      }
    }
    check(0x7F7F, 0x1p128, FloatFormats.float(bfloat16:), FloatFormats.bfloat16, "bf16")
    check(0x7BFF, 65536, FloatFormats.float(float16:), FloatFormats.float16, "f16")
  }

  @Test func anyFloatConvertsAsSwiftsFloat16() {
    var random = CounterRandom(seed: 1, stream: 1)
    for _ in 0..<200_000 {
      let value = Float(bitPattern: UInt32(truncatingIfNeeded: random.next()))
      let found = FloatFormats.float16(value)
      if value.isNaN {
        if !Float16(bitPattern: found).isNaN { Issue.record("NaN became \(found)") }
      } else if found != Float16(value).bitPattern {
        Issue.record("\(value) became \(found)")
      }
    }
  }

  @Test func specialValuesStay() {
    for value in [Float.infinity, -Float.infinity, 0, -0.0] {
      #expect(FloatFormats.float(bfloat16: FloatFormats.bfloat16(value)).bitPattern == value.bitPattern)
      #expect(FloatFormats.float(float16: FloatFormats.float16(value)).bitPattern == value.bitPattern)
    }
    // Every NaN, also those whose upper bits alone would be infinity.
    for bits in [0x7F80_0001, 0xFF80_0001, 0x7FFF_FFFF, 0xFFFF_FFFF, 0x7FC0_0000] as [UInt32] {
      let value = Float(bitPattern: bits)
      #expect(FloatFormats.float(bfloat16: FloatFormats.bfloat16(value)).isNaN)
      #expect(FloatFormats.float(float16: FloatFormats.float16(value)).isNaN)
    }
    #expect(FloatFormats.bfloat16(.greatestFiniteMagnitude) == 0x7F80)
    #expect(FloatFormats.float16(65519.99) == 0x7BFF)
    #expect(FloatFormats.float16(65520) == 0x7C00)
    #expect(FloatFormats.float16(0x1p-25) == 0)
    #expect(FloatFormats.float16(Float(0x1p-25).nextUp) == 1)
    #expect(FloatFormats.float16(.leastNonzeroMagnitude) == 0)
  }
}

@Suite struct AlignedBufferTests {
  @Test(arguments: [0, 1, 17, 4096, 3 << 20])
  func memoryIsZeroAlignedAndKept(count: Int) {
    let buffer = AlignedBuffer<Float>(count: count)
    #expect(Int(bitPattern: buffer.pointer) % 4096 == 0)
    #expect(buffer.count == count && buffer.values.count == count && buffer.bytes == 4 * count)
    #expect(buffer.values.allSatisfy { $0.bitPattern == 0 })
    for index in stride(from: 0, to: count, by: max(count / 10, 1)) {
      buffer[index] = Float(index)
      #expect(buffer[index] == Float(index) && buffer.pointer[index] == Float(index))
    }
  }

  @Test func otherElementsHaveTheirOwnSize() {
    let bytes = AlignedBuffer<UInt8>(count: 5)
    let doubles = AlignedBuffer<Double>(count: 5)
    #expect(bytes.bytes == 5 && doubles.bytes == 40)
  }
}

@Suite struct CounterRandomTests {
  @Test func theCounterAloneDecides() {
    var whole = CounterRandom(seed: 42, stream: 3)
    let values = (0..<100).map { _ in whole.next() }
    #expect(whole.counter == 100)
    for start in [0, 1, 50, 99] {
      var later = CounterRandom(seed: 42, stream: 3, counter: UInt64(start))
      #expect((start..<100).map { _ in later.next() } == Array(values[start...]))
    }
  }

  /// Checkpoints keep a counter only: another sequence in a later version would change a resumed run.
  @Test func theSequenceIsFixed() {
    var random = CounterRandom(seed: 42, stream: 3)
    #expect((0..<3).map { _ in random.next() } == [0x9F3CE5D9381C438B, 0x394E1361B18ADCE5, 0x98464591580EBE8B])
  }

  @Test func seedsAndStreamsDiffer() {
    var seen: Set<UInt64> = []
    for seed in 0..<30 as Range<UInt64> {
      for stream in 0..<30 as Range<UInt64> {
        var random = CounterRandom(seed: seed, stream: stream)
        for _ in 0..<20 { seen.insert(random.next()) }
      }
    }
    #expect(seen.count == 30 * 30 * 20)
  }

  @Test(arguments: [0, 1, 12345, .max] as [UInt64])
  func uniformAndNormalHaveTheirMoments(seed: UInt64) {
    var random = CounterRandom(seed: seed, stream: 7)
    let count = 100_000
    let uniform = (0..<count).map { _ in Double(random.uniform()) }
    #expect(uniform.allSatisfy { $0 >= 0 && $0 < 1 })
    let normal = (0..<count).map { _ in Double(random.normal()) }
    func mean(_ values: [Double]) -> Double { values.reduce(0, +) / Double(values.count) }
    #expect(abs(mean(uniform) - 0.5) < 0.006)
    #expect(abs(mean(uniform.map { ($0 - 0.5) * ($0 - 0.5) }) - 1.0 / 12) < 0.002)
    #expect(abs(mean(normal)) < 0.02)
    #expect(abs(mean(normal.map { $0 * $0 }) - 1) < 0.03)
    #expect(abs(mean(normal.map { $0 * $0 * $0 * $0 }) - 3) < 0.3)
    #expect(normal.allSatisfy { $0.isFinite && abs($0) < 9 })
    // Neighbours, and the same counter of the next stream, have nothing to do with each other.
    #expect(abs(mean(zip(normal, normal.dropFirst()).map { $0 * $1 })) < 0.02)
    var other = CounterRandom(seed: seed, stream: 8, counter: UInt64(count))
    #expect(abs(mean(normal.map { $0 * Double(other.normal()) })) < 0.02)
  }
}

@Suite struct ParameterLayoutTests {
  @Test func tensorsLieEndToEnd() {
    var layout = ParameterLayout()
    #expect(layout.count == 0 && layout.decayRanges.isEmpty)
    let offsets = [
      layout.append("a", [3, 4]), layout.append("b", [5], decays: false), layout.append("scalar", []),
      layout.append("empty", [0, 7]), layout.append("c", [2, 2]),
    ]
    #expect(offsets == [0, 12, 17, 18, 18])
    #expect(layout.count == 22)
    #expect(layout.entries.map(\.range) == [0..<12, 12..<17, 17..<18, 18..<18, 18..<22])
    #expect(layout.decayRanges == [0..<12, 17..<22])
  }

  @Test func rangesWithoutDecayCutTheArena() {
    var layout = ParameterLayout()
    for index in 0..<6 { layout.append("\(index)", [10], decays: index % 3 != 0) }
    #expect(layout.decayRanges == [10..<30, 40..<60])
  }
}
