/// The three products of a linear layer, divided over threads so that every output element is summed by one of them.
///
/// The bits do not depend on how many threads there are: the library sums an element's terms in the same order wherever it
/// lies, except in products of very few rows, for which it has kernels of their own. So no part is smaller than `leastRows`
/// unless the whole is.
extension Matmul {
  private static var leastRows: Int { 32 }

  /// `Y[rows, outputs] (+)= X[rows, inputs] * W[outputs, inputs]^T`. Divided by rows.
  package static func linear(
    _ pool: ThreadPool, rows: Int, inputs: Int, outputs: Int, _ x: MatrixOperand, weight: MatrixOperand,
    accumulate: Bool = false, _ y: UnsafeMutablePointer<Float>
  ) {
    pool.ranges(rows, grain: leastRows) { range in
      multiply(
        transposeB: true, m: range.count, n: outputs, k: inputs, x.from(row: range.lowerBound), weight,
        beta: accumulate ? 1 : 0, y + range.lowerBound * outputs, ldc: outputs)
    }
  }

  /// The same as `linear`, divided by output columns: for few rows and many outputs, as in the head.
  package static func linearByColumns(
    _ pool: ThreadPool, rows: Int, inputs: Int, outputs: Int, _ x: MatrixOperand, weight: MatrixOperand,
    _ y: UnsafeMutablePointer<Float>
  ) {
    pool.ranges(outputs, grain: 64) { range in
      multiply(
        transposeB: true, m: rows, n: range.count, k: inputs, x, weight.from(row: range.lowerBound),
        y + range.lowerBound, ldc: outputs)
    }
  }

  /// `dX[rows, inputs] = dY[rows, outputs] * W[outputs, inputs]`. Divided by rows.
  package static func inputGradient(
    _ pool: ThreadPool, rows: Int, inputs: Int, outputs: Int, _ dY: MatrixOperand, weight: MatrixOperand,
    _ dX: UnsafeMutablePointer<Float>
  ) {
    pool.ranges(rows, grain: leastRows) { range in
      multiply(
        m: range.count, n: inputs, k: outputs, dY.from(row: range.lowerBound), weight,
        dX + range.lowerBound * inputs, ldc: inputs)
    }
  }

  /// `dW[outputs, inputs] += dY[rows, outputs]^T * X[rows, inputs]`. Divided by outputs.
  package static func weightGradient(
    _ pool: ThreadPool, rows: Int, inputs: Int, outputs: Int, _ dY: MatrixOperand, _ x: MatrixOperand,
    _ dW: UnsafeMutablePointer<Float>
  ) {
    pool.ranges(outputs, grain: leastRows) { range in
      multiply(
        transposeA: true, m: range.count, n: inputs, k: rows, dY.from(column: range.lowerBound), x,
        beta: 1, dW + range.lowerBound * inputs, ldc: inputs)
    }
  }
}
