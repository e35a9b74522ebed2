import CBFloat16
import COneDNN
import Glibc
import Tensors

/// Matrix products, row-major. The seam behind which a library (oneDNN here: it picks its kernels by what the processor
/// has, whatever the environment says) does the work. One call is one thread.
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

  /// `C[m, n] = alpha * A[m, k] * B + beta * C` of two operands of the same precision, summed in fp32.
  package static func multiply(
    transposeA: Bool = false, transposeB: Bool = false, m: Int, n: Int, k: Int, alpha: Float = 1, _ a: MatrixOperand,
    _ b: MatrixOperand, beta: Float = 0, _ c: UnsafeMutablePointer<Float>, ldc: Int
  ) {
    switch (a.values, b.values) {
    case (.float32(let aValues), .float32(let bValues)):
      multiply(
        transposeA: transposeA, transposeB: transposeB, m: m, n: n, k: k, alpha: alpha, aValues,
        lda: a.stride, bValues, ldb: b.stride, beta: beta, c, ldc: ldc)
    case (.bfloat16(let aValues), .bfloat16(let bValues)):
      if m == 0 || n == 0 { return }
      if k == 0 { return clear(m: m, n: n, beta: beta, c, ldc: ldc) }
      OpenMP.useOneThread()
      let status = orpo_bf16_multiply(
        transposeA, transposeB, Int64(m), Int64(n), Int64(k), alpha, words(aValues), Int64(a.stride),
        words(bValues), Int64(b.stride), beta, c, Int64(ldc))
      precondition(status == 0, "a bf16 product of \(m) x \(n) x \(k) failed with status \(status) of oneDNN")
    default: preconditionFailure("a product of one fp32 and one bf16 operand")
    }
  }

  /// A sum over nothing: `C = beta * C`.
  private static func clear(m: Int, n: Int, beta: Float, _ c: UnsafeMutablePointer<Float>, ldc: Int) {
    for row in 0..<m {
      for column in 0..<n { c[row * ldc + column] = beta == 0 ? 0 : beta * c[row * ldc + column] }
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
