/// Token embedding: a row of the table for each token, and the scatter of its gradient.
package enum Embedding {
  /// `x[rows, size]` = the rows of `table[vocabulary, size]` named by `tokens`.
  package static func forward(
    _ pool: ThreadPool, size: Int, tokens: UnsafeBufferPointer<Int32>, table: UnsafePointer<Float>,
    _ x: UnsafeMutablePointer<Float>
  ) {
    pool.ranges(tokens.count) { range in
      for row in range { (x + row * size).update(from: table + Int(tokens[row]) * size, count: size) }
    }
  }

  /// `dTable[token] += dX[row]`, but not for the token `frozen`. A token may occur many times, so threads own columns:
  /// every sum runs in row order.
  package static func backward(
    _ pool: ThreadPool, size: Int, tokens: UnsafeBufferPointer<Int32>, frozen: Int32?,
    _ dX: UnsafePointer<Float>, dTable: UnsafeMutablePointer<Float>
  ) {
    pool.ranges(size, grain: 16) { columns in
      for row in 0..<tokens.count where tokens[row] != frozen {
        Vectors.add(
          dX + row * size + columns.lowerBound, to: dTable + Int(tokens[row]) * size + columns.lowerBound,
          count: columns.count)
      }
    }
  }
}
