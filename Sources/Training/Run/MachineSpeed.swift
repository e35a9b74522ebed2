import Foundation
package import Kernels
import Tensors

/// What this machine's matrix products reach, measured in a moment.
package enum MachineSpeed {
  /// fp32 GFLOP/s of all threads of `pool` together, each multiplying on its own: the best of a few products of a
  /// layer's size.
  package static func matmulGFLOPs(_ pool: ThreadPool, rounds: Int = 4) -> Double {
    let (m, n, k) = (512, 768, 576)
    let perThread = m * k + n * k + m * n
    let memory = AlignedBuffer<Float>(count: perThread * pool.threadCount)
    for index in 0..<memory.count { memory.pointer[index] = Float(index % 13) * 0.01 }
    let start = memory.pointer
    func product() {
      pool.run { thread in
        let a = start + thread * perThread
        Matmul.multiply(transposeB: true, m: m, n: n, k: k, a, lda: k, a + m * k, ldb: k, a + m * k + n * k, ldc: n)
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
