import COpenBLAS

/// Matrix products, row-major. The seam behind which a library (OpenBLAS here) does the work: one call is one thread; the `ThreadPool`
/// forms divide rows or columns so that every output element is summed by one thread in the library's own order.
package enum Matmul {
  /// `C[m, n] = alpha * A[m, k] * B + beta * C`, with `B` as `[n, k]` when `transposeB`, and `A` as `[k, m]` when `transposeA`.
  /// `lda`, `ldb`, `ldc` are the distances between rows in memory.
  @inline(__always)
  package static func multiply(
    transposeA: Bool = false, transposeB: Bool = false, m: Int, n: Int, k: Int, alpha: Float = 1,
    _ a: UnsafePointer<Float>, lda: Int, _ b: UnsafePointer<Float>, ldb: Int, beta: Float = 0,
    _ c: UnsafeMutablePointer<Float>, ldc: Int
  ) {
    if m == 0 || n == 0 { return }
    cblas_sgemm(
      CblasRowMajor, transposeA ? CblasTrans : CblasNoTrans, transposeB ? CblasTrans : CblasNoTrans, blasint(m), blasint(n),
      blasint(k), alpha, a, blasint(lda), b, blasint(ldb), beta, c, blasint(ldc))
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
        transposeA: true, m: range.count, n: inputs, k: rows, dY + range.lowerBound, lda: outputs, x, ldb: inputs, beta: 1,
        dW + range.lowerBound * inputs, ldc: inputs)
    }
  }
}

extension Matmul {
  /// Makes each library call run on the thread that makes it; call once before the first product.
  package static func useOneThreadPerCall() { openblas_set_num_threads(1) }

  /// The kernels the library chose for this processor, such as `SkylakeX`.
  package static var coreName: String { String(cString: openblas_get_corename()) }
}
