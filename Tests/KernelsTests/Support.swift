import Kernels
import Tensors

/// Thread counts every kernel is tried with: alone, as many as usual, and one that divides nothing evenly.
let threadCounts = [1, 2, 3]

/// Sizes around the width of the vectors, 16.
let oddSizes = [1, 7, 16, 17, 33]

func withPool<Result>(_ threads: Int, _ body: (ThreadPool) throws -> Result) rethrows -> Result {
  let pool = ThreadPool(threads: threads)
  defer { pool.stop() }
  return try body(pool)
}

/// Normal random numbers, the same for the same stream.
func numbers(_ count: Int, stream: UInt64, times scale: Float = 1) -> [Float] {
  var random = CounterRandom(seed: 20, stream: stream)
  return (0..<count).map { _ in random.normal() * scale }
}

extension [Float] {
  var doubles: [Double] { map(Double.init) }
  var bits: [UInt32] { map(\.bitPattern) }
}

/// Values a kernel works on, with NaN before and after them: reading there shows in the result, writing there in
/// `isIntact`.
final class Memory {
  private static let margin = 48
  private static let mark: UInt32 = 0x7FC0_BEEF
  private let storage: UnsafeMutablePointer<Float>
  let count: Int

  init(_ values: [Float]) {
    count = values.count
    storage = .allocate(capacity: count + 2 * Self.margin)
    storage.initialize(repeating: Float(bitPattern: Self.mark), count: count + 2 * Self.margin)
    for (index, value) in values.enumerated() { pointer[index] = value }
  }

  /// Memory that a kernel has to overwrite.
  convenience init(unset count: Int) { self.init([Float](repeating: .nan, count: count)) }

  deinit { storage.deallocate() }

  var pointer: UnsafeMutablePointer<Float> { storage + Self.margin }
  var values: [Float] { (0..<count).map { pointer[$0] } }

  var isIntact: Bool {
    (0..<Self.margin).allSatisfy {
      storage[$0].bitPattern == Self.mark && pointer[count + $0].bitPattern == Self.mark
    }
  }
}

/// Largest |a - b| as a share of the largest |b|; infinite when the counts differ or a value is not finite.
func largestError(_ a: [Float], _ b: [Double]) -> Double {
  guard a.count == b.count, a.allSatisfy(\.isFinite) else { return .infinity }
  let size = b.reduce(0) { max($0, abs($1)) }
  return zip(a, b).reduce(0) { max($0, abs(Double($1.0) - $1.1)) } / max(size, 1e-30)
}

/// Gradient of `f` at `x` by central differences in fp64, exact to about 1e-8.
func centralDifferences(_ x: [Double], _ f: ([Double]) -> Double) -> [Double] {
  var moved = x
  return x.indices.map { index in
    let step = 1e-5 * max(1, abs(x[index]))
    moved[index] = x[index] + step
    let above = f(moved)
    moved[index] = x[index] - step
    let below = f(moved)
    moved[index] = x[index]
    return (above - below) / (2 * step)
  }
}

/// Element by element.
func sum(_ a: [Double], _ b: [Double]) -> [Double] { zip(a, b).map { $0 + $1 } }

func dot(_ a: [Double], _ b: [Double]) -> Double { zip(a, b).reduce(0) { $0 + $1.0 * $1.1 } }
