import Kernels
import Tensors
import Timeline

/// The parameters as products take them: in fp32 where they lie, or rounded to bf16 once after every change, not at
/// every use.
final class DecoderWeights {
  let precision: ProductPrecision
  /// The parameter arena.
  let values: UnsafeMutablePointer<Float>
  /// The arena in bf16; empty in fp32.
  private let rounded: AlignedBuffer<BFloat16>
  private let count: Int

  init(_ parameters: UnsafeMutablePointer<Float>, count: Int, precision: ProductPrecision) {
    self.precision = precision
    self.count = count
    values = parameters
    rounded = AlignedBuffer(count: precision == .bfloat16 ? count : 0)
  }

  var bytes: Int { rounded.bytes }

  /// The matrix at `offset` of the arena, with rows of `columns` values.
  func matrix(_ offset: Int, columns: Int) -> MatrixOperand {
    switch precision {
    case .float32: MatrixOperand(values + offset, stride: columns)
    case .bfloat16: MatrixOperand(rounded.pointer + offset, stride: columns)
    }
  }

  /// To be called when parameters have changed, before they are used.
  func refresh(_ pool: ThreadPool) {
    if precision == .bfloat16 { BFloat16.roundParameters(pool, values, count: count, rounded.pointer) }
  }
}

/// Activations as products take them: as they are, or rounded to bf16 into scratch.
struct RoundingScratch {
  let precision: ProductPrecision
  /// One micro-batch's rows of the widest matrix there is; not used in fp32.
  let memory: UnsafeMutablePointer<BFloat16>

  /// `values[rows, columns]`, valid until the scratch is used again.
  func matrix(_ pool: ThreadPool, _ values: UnsafePointer<Float>, rows: Int, columns: Int) -> MatrixOperand {
    switch precision {
    case .float32: return MatrixOperand(values, stride: columns)
    case .bfloat16:
      pool.timeline.span("round factor") { BFloat16.round(pool, rows: rows, columns: columns, values, memory) }
      return MatrixOperand(memory, stride: columns)
    }
  }
}
