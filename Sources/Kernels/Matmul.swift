import COneDNN
import Glibc

/// Matrix products, row-major. The seam behind which a library (oneDNN here: it picks its kernels by what the processor
/// has, whatever the environment says) does the work: one call is one thread; the `ThreadPool` forms divide rows or
/// columns so that every output element is summed by one thread in the library's own order.
package enum Matmul {
  /// `C[m, n] = alpha * A[m, k] * B + beta * C`, with `B` as `[n, k]` when `transposeB`, and `A` as `[k, m]` when
  /// `transposeA`. `lda`, `ldb`, `ldc` are the distances between rows in memory.
  @inline(__always)
  package static func multiply(
    transposeA: Bool = false, transposeB: Bool = false, m: Int, n: Int, k: Int, alpha: Float = 1,
    _ a: UnsafePointer<Float>, lda: Int, _ b: UnsafePointer<Float>, ldb: Int, beta: Float = 0,
    _ c: UnsafeMutablePointer<Float>, ldc: Int
  ) {
    if m == 0 || n == 0 { return }
    if k == 0 { return clear(m: m, n: n, beta: beta, c, ldc: ldc) }
    OpenMP.useOneThread()
    let status = dnnl_sgemm(
      CChar(bitPattern: transposeA ? UInt8(ascii: "T") : UInt8(ascii: "N")),
      CChar(bitPattern: transposeB ? UInt8(ascii: "T") : UInt8(ascii: "N")), dnnl_dim_t(m), dnnl_dim_t(n),
      dnnl_dim_t(k),
      alpha, a, dnnl_dim_t(lda), b, dnnl_dim_t(ldb), beta, c, dnnl_dim_t(ldc))
    precondition(
      status == dnnl_success, "a product of \(m) x \(n) x \(k) failed with status \(status.rawValue) of oneDNN")
  }

  /// A sum over nothing: `C = beta * C`.
  private static func clear(m: Int, n: Int, beta: Float, _ c: UnsafeMutablePointer<Float>, ldc: Int) {
    for row in 0..<m {
      for column in 0..<n { c[row * ldc + column] = beta == 0 ? 0 : beta * c[row * ldc + column] }
    }
  }

  /// `Y[rows, outputs] (+)= X[rows, inputs] * W[outputs, inputs]^T`: a linear layer. Divided by rows.
  package static func linear(
    _ pool: ThreadPool, rows: Int, inputs: Int, outputs: Int, _ x: UnsafePointer<Float>, weight: UnsafePointer<Float>,
    accumulate: Bool = false, _ y: UnsafeMutablePointer<Float>
  ) {
    pool.ranges(rows, grain: 16) { range in
      multiply(
        transposeB: true, m: range.count, n: outputs, k: inputs, x + range.lowerBound * inputs, lda: inputs, weight,
        ldb: inputs, beta: accumulate ? 1 : 0, y + range.lowerBound * outputs, ldc: outputs)
    }
  }

  /// The same as `linear`, divided by output columns: for few rows and many outputs, as in the head.
  package static func linearByColumns(
    _ pool: ThreadPool, rows: Int, inputs: Int, outputs: Int, _ x: UnsafePointer<Float>, weight: UnsafePointer<Float>,
    _ y: UnsafeMutablePointer<Float>
  ) {
    pool.ranges(outputs, grain: 64) { range in
      multiply(
        transposeB: true, m: rows, n: range.count, k: inputs, x, lda: inputs, weight + range.lowerBound * inputs,
        ldb: inputs, y + range.lowerBound, ldc: outputs)
    }
  }

  /// `dX[rows, inputs] = dY[rows, outputs] * W[outputs, inputs]`. Divided by rows.
  package static func inputGradient(
    _ pool: ThreadPool, rows: Int, inputs: Int, outputs: Int, _ dY: UnsafePointer<Float>, weight: UnsafePointer<Float>,
    _ dX: UnsafeMutablePointer<Float>
  ) {
    pool.ranges(rows, grain: 16) { range in
      multiply(
        m: range.count, n: inputs, k: outputs, dY + range.lowerBound * outputs, lda: outputs, weight, ldb: inputs,
        dX + range.lowerBound * inputs, ldc: inputs)
    }
  }

  /// `dW[outputs, inputs] += dY[rows, outputs]^T * X[rows, inputs]`. Divided by outputs.
  package static func weightGradient(
    _ pool: ThreadPool, rows: Int, inputs: Int, outputs: Int, _ dY: UnsafePointer<Float>, _ x: UnsafePointer<Float>,
    _ dW: UnsafeMutablePointer<Float>
  ) {
    pool.ranges(outputs, grain: 16) { range in
      multiply(
        transposeA: true, m: range.count, n: inputs, k: rows, dY + range.lowerBound, lda: outputs, x, ldb: inputs,
        beta: 1,
        dW + range.lowerBound * inputs, ldc: inputs)
    }
  }
}

extension Matmul {
  /// The instruction set the library uses on this processor, such as `avx512_core_bf16`.
  package static var instructionSet: String {
    switch dnnl_get_effective_cpu_isa() {
    case dnnl_cpu_isa_sse41: "sse41"
    case dnnl_cpu_isa_avx: "avx"
    case dnnl_cpu_isa_avx2: "avx2"
    case dnnl_cpu_isa_avx2_vnni: "avx2_vnni"
    case dnnl_cpu_isa_avx512_core: "avx512_core"
    case dnnl_cpu_isa_avx512_core_vnni: "avx512_core_vnni"
    case dnnl_cpu_isa_avx512_core_bf16: "avx512_core_bf16"
    case dnnl_cpu_isa_avx512_core_amx: "avx512_core_amx"
    case let other: "isa \(other.rawValue)"
    }
  }
}

/// oneDNN divides its work over OpenMP threads where it was built with OpenMP; here the threads are the pool's.
private enum OpenMP {
  private static let setThreads: (@convention(c) (Int32) -> Void)? = {
    // libgomp comes with oneDNN's library, not with this program.
    guard let symbol = dlsym(nil, "omp_set_num_threads") else { return nil }
    return unsafeBitCast(symbol, to: (@convention(c) (Int32) -> Void).self)
  }()

  /// The setting belongs to the calling thread, and costs a store.
  @inline(__always) static func useOneThread() { setThreads?(1) }
}
