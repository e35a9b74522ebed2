import CBFloat16
package import Tensors

/// What matrix products take their factors in; sums are fp32 in either case.
package enum ProductPrecision: String, Sendable {
  case float32, bfloat16

  /// Whether this processor multiplies bf16 by itself (AVX512_BF16 or AMX). Where it does not, bf16 would be emulated,
  /// slower than fp32.
  package static var hasBFloat16: Bool { orpo_bf16_is_native() }
}

/// A row-major matrix as a factor of a product: a view, whose memory the caller keeps alive.
package struct MatrixOperand {
  enum Values {
    case float32(UnsafePointer<Float>)
    case bfloat16(UnsafePointer<BFloat16>)
  }

  let values: Values
  /// Distance between rows, in elements.
  let stride: Int

  package init(_ values: UnsafePointer<Float>, stride: Int) {
    self.values = .float32(values)
    self.stride = stride
  }

  package init(_ values: UnsafePointer<BFloat16>, stride: Int) {
    self.values = .bfloat16(values)
    self.stride = stride
  }

  package var precision: ProductPrecision {
    switch values {
    case .float32: .float32
    case .bfloat16: .bfloat16
    }
  }

  package func from(row: Int) -> MatrixOperand { advanced(by: row * stride) }
  package func from(column: Int) -> MatrixOperand { advanced(by: column) }

  private func advanced(by count: Int) -> MatrixOperand {
    switch values {
    case .float32(let values): MatrixOperand(values + count, stride: stride)
    case .bfloat16(let values): MatrixOperand(values + count, stride: stride)
    }
  }
}

extension BFloat16 {
  /// Rounds `rows` rows of `columns` values that lie side by side. Only where `ProductPrecision.hasBFloat16`.
  package static func round(
    _ pool: ThreadPool, rows: Int, columns: Int, _ values: UnsafePointer<Float>, _ to: UnsafeMutablePointer<BFloat16>
  ) {
    pool.ranges(rows) { range in
      let start = range.lowerBound * columns
      orpo_bf16_round(values + start, words(to + start), Int64(range.count * columns))
    }
  }

  /// Rounds an arena of parameters, each up or down by a threshold of its own that never changes, so that updates far
  /// smaller than the distance between two bf16 numbers show in the sum over many.
  package static func roundParameters(
    _ pool: ThreadPool, _ values: UnsafePointer<Float>, count: Int, _ to: UnsafeMutablePointer<BFloat16>
  ) {
    pool.ranges(count, grain: 1 << 16) { range in
      let start = range.lowerBound
      orpo_bf16_round_parameters(values + start, words(to + start), Int64(range.count), UInt64(start))
    }
  }

  /// Rounds a row in place: afterwards its first half holds the `count` values in bf16.
  package static func roundInPlace(_ values: UnsafeMutablePointer<Float>, count: Int) {
    orpo_bf16_round(values, UnsafeMutableRawPointer(values).assumingMemoryBound(to: UInt16.self), Int64(count))
  }
}

func words(_ values: UnsafePointer<BFloat16>) -> UnsafePointer<UInt16> {
  UnsafeRawPointer(values).assumingMemoryBound(to: UInt16.self)
}

func words(_ values: UnsafeMutablePointer<BFloat16>) -> UnsafeMutablePointer<UInt16> {
  UnsafeMutableRawPointer(values).assumingMemoryBound(to: UInt16.self)
}
