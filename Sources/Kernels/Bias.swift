/// A bias added to every row, and its gradient.
package enum Bias {
  /// `y[rows, size] += bias[size]`.
  package static func forward(
    _ pool: ThreadPool, rows: Int, size: Int, bias: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>
  ) {
    pool.ranges(rows) { range in
      for row in range { Vectors.add(bias, to: y + row * size, count: size) }
    }
  }

  /// `dBias[size] += ` the sum of `dY[rows, size]` over rows; each thread sums columns of its own.
  package static func backward(
    _ pool: ThreadPool, rows: Int, size: Int, _ dY: UnsafePointer<Float>, dBias: UnsafeMutablePointer<Float>
  ) {
    pool.ranges(size, grain: 16) { columns in
      for row in 0..<rows {
        Vectors.add(dY + row * size + columns.lowerBound, to: dBias + columns.lowerBound, count: columns.count)
      }
    }
  }
}
