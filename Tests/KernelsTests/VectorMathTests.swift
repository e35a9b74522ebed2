import Foundation
import Kernels
import Testing

@Suite struct VectorMathTests {
  /// e^x as the kernels compute it, through the vector path (multiples of 16) or the scalar one.
  private static func exponential(_ x: [Float]) -> [Float] {
    let memory = Memory(x)
    _ = Vectors.exponentiate(memory.pointer, count: x.count, shift: 0)
    return memory.values
  }

  private static func unitsInTheLastPlace(_ found: Float, _ x: Float) -> Double {
    let exact = exp(Double(x))
    return abs(Double(found) - exact) / Double(Float(exact).ulp)
  }

  @Test func exponentialIsExactToTwoUnitsInTheLastPlace() {
    var worst = (error: 0.0, x: Float(0))
    for sign in [UInt32(0), 0x8000_0000] {
      let end = Float(sign == 0 ? 88.3 : 87.3).bitPattern
      let x = stride(from: 0, through: end, by: 4099).map { Float(bitPattern: sign | $0) }
      for (x, y) in zip(x, Self.exponential(x)) {
        let error = Self.unitsInTheLastPlace(y, x)
        if !(error <= worst.error) { worst = (error, x) }
      }
    }
    #expect(worst.error <= 2, "off by \(worst.error) units at \(worst.x)")
  }

  /// Arguments near the multiples of ln2 / 2, where the reduction changes its integer.
  @Test func exponentialIsExactWhereTheReductionSwitches() {
    for n in -251...253 {
      let middle = Float(Double(n) * log(2) / 2)
      for x in [middle.nextDown, middle, middle.nextUp] where (-87.3...88.3).contains(x) {
        #expect(Self.unitsInTheLastPlace(Self.exponential([x])[0], x) <= 2)
      }
    }
  }

  @Test(arguments: [1, 16, 17])
  func exponentialIsClampedAtItsEnds(count: Int) {
    let atTop = Self.exponential([Float](repeating: 88.3, count: count))
    let atBottom = Self.exponential([Float](repeating: -87.3, count: count))
    #expect(atTop.allSatisfy { $0.isFinite })
    #expect(atBottom.allSatisfy { $0 > 0 && $0 < 2e-38 })
    for x in [Float(88.31), 89, 1000, .greatestFiniteMagnitude, .infinity] {
      #expect(Self.exponential([Float](repeating: x, count: count)) == atTop)
      #expect(Self.exponential([Float](repeating: -x, count: count)) == atBottom)
    }
    #expect(Self.exponential([Float](repeating: 88.29, count: count))[0] < atTop[0])
    #expect(Self.exponential([Float](repeating: -87.29, count: count))[0] > atBottom[0])
    #expect(Self.exponential([Float](repeating: 0, count: count)) == [Float](repeating: 1, count: count))
    #expect(Self.exponential([Float](repeating: -0.0, count: count)) == [Float](repeating: 1, count: count))
  }

  /// A broken run must show: NaN may not turn into a number.
  @Test(arguments: [1, 16, 17])
  func notANumberStaysNotANumber(count: Int) {
    #expect(Self.exponential([Float](repeating: .nan, count: count)).allSatisfy { $0.isNaN })
  }

  @Test(arguments: [0] + oddSizes + [100])
  func sumsEqualFP64(count: Int) {
    let (x, y) = (Memory(numbers(count, stream: 1)), Memory(numbers(count, stream: 2)))
    let (xs, ys) = (x.values.doubles, y.values.doubles)
    #expect(abs(Double(Vectors.dot(x.pointer, y.pointer, count: count)) - dot(xs, ys)) < 1e-5)
    #expect(Vectors.largest(x.pointer, count: count) == x.values.max() ?? -.infinity)

    let exponentials = xs.map { exp($0 - Double(Float(0.7))) }
    let total = exponentials.reduce(0, +)
    #expect(abs(Double(Vectors.exponentialSum(x.pointer, count: count, shift: 0.7)) - total) <= 1e-6 * total)
    #expect(x.values.doubles == xs)
    #expect(abs(Double(Vectors.exponentiate(x.pointer, count: count, shift: 0.7)) - total) <= 1e-6 * total)
    #expect(largestError(x.values, exponentials) < 5e-7)
    #expect(x.isIntact && y.isIntact)
  }

  @Test(arguments: [0] + oddSizes)
  func addAndScaleAreExact(count: Int) {
    let (x, y) = (Memory(numbers(count, stream: 1)), Memory(numbers(count, stream: 2)))
    let sums = zip(x.values, y.values).map { $0 + $1 }
    Vectors.add(x.pointer, to: y.pointer, count: count)
    #expect(y.values == sums)
    Vectors.scale(y.pointer, count: count, by: -0.3)
    #expect(y.values == sums.map { $0 * -0.3 })
    #expect(x.isIntact && y.isIntact)
  }

  @Test func theLargestOfNegativesIsFoundWhereverItIs() {
    for count in [1, 15, 16, 31, 32, 40] {
      for place in 0..<count {
        var values = [Float](repeating: -5, count: count)
        values[place] = -4
        let x = Memory(values)
        #expect(Vectors.largest(x.pointer, count: count) == -4)
      }
    }
  }
}
