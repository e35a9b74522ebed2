import Foundation
package import Kernels
import Tensors

/// What this machine's matrix products reach, measured in a moment.
package enum MachineSpeed {
  /// GFLOP/s of all threads of `pool` together, each multiplying on its own: the best of a few products of a layer's
  /// size.
  package static func matmulGFLOPs(
    _ pool: ThreadPool, precision: ProductPrecision = .float32, rounds: Int = 4
  ) -> Double {
    let (m, n, k) = (512, 768, 576)
    let factors = FactorMemory(count: (m * k + n * k) * pool.threadCount, precision: precision, pool: pool)
    let results = AlignedBuffer<Float>(count: m * n * pool.threadCount)
    let result = results.pointer
    func product() {
      pool.run { thread in
        let first = thread * (m * k + n * k)
        Matmul.multiply(
          transposeB: true, m: m, n: n, k: k, factors.matrix(at: first, columns: k),
          factors.matrix(at: first + m * k, columns: k), result + thread * m * n, ldc: n)
      }
    }
    product()
    var best = 0.0
    for _ in 0..<rounds {
      let begin = ProcessInfo.processInfo.systemUptime
      for _ in 0..<4 { product() }
      let seconds = ProcessInfo.processInfo.systemUptime - begin
      best = max(best, Double(pool.threadCount) * 4 * 2 * Double(m) * Double(n) * Double(k) / seconds / 1e9)
    }
    return best
  }
}

extension ProductPrecision {
  /// As in reports: `fp32`, `bf16`.
  var shortName: String { self == .float32 ? "fp32" : "bf16" }
}

/// Factors of products where only the time counts.
struct FactorMemory: ~Copyable {
  private let precision: ProductPrecision
  private let values: AlignedBuffer<Float>
  private let rounded: AlignedBuffer<BFloat16>

  init(count: Int, precision: ProductPrecision, pool: ThreadPool) {
    self.precision = precision
    values = AlignedBuffer(count: count)
    SyntheticValues.fill(values.values, pool: pool)
    rounded = AlignedBuffer(count: precision == .bfloat16 ? count : 0)
    if precision == .bfloat16 { BFloat16.round(pool, rows: count, columns: 1, values.pointer, rounded.pointer) }
  }

  func matrix(at offset: Int, columns: Int) -> MatrixOperand {
    switch precision {
    case .float32: MatrixOperand(values.pointer + offset, stride: columns)
    case .bfloat16: MatrixOperand(rounded.pointer + offset, stride: columns)
    }
  }
}

/// Numbers to compute with where only the time counts.
enum SyntheticValues {
  /// Small values of both signs, no two neighbours alike, none denormal.
  static func fill(_ values: UnsafeMutableBufferPointer<Float>, pool: ThreadPool) {
    guard let start = values.baseAddress else { return }
    pool.ranges(values.count, grain: 1 << 12) { range in
      for index in range { start[index] = Float((index &* 37) % 101 - 50) * 4e-4 }
    }
  }
}
