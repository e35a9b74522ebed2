#if canImport(Glibc)
  import Glibc
#endif

extension SegmentAttention {
  /// `output[rows, queryHeads * headDim]` and `lse[rows, queryHeads]` (log of each query's sum of e^score) from
  /// `qkv[rows, stride]`.
  ///
  /// Every (segment, key head, tile) is a task of its own and writes rows of its own.
  /// - Parameter factors: `qkv` as products take it, in bf16 where they are to be in bf16; nil for fp32.
  package func forward(
    _ segments: [Segment], _ qkv: UnsafePointer<Float>, factors: MatrixOperand? = nil,
    _ output: UnsafeMutablePointer<Float>, lse: UnsafeMutablePointer<Float>
  ) {
    let factors = factors ?? MatrixOperand(qkv, stride: shape.stride)
    var tasks: [(segment: Segment, keyHead: Int, row: Int)] = []
    for segment in segments {
      for row in stride(from: 0, to: segment.count, by: shape.tileRows) {
        for keyHead in 0..<shape.keyHeads { tasks.append((segment, keyHead, row)) }
      }
    }
    pool.tasks(tasks.count) { index, thread in
      let task = tasks[index]
      forward(
        tile(task.segment, at: task.row), task.segment, keyHead: task.keyHead, scratch(thread), qkv, factors, output,
        lse: lse)
    }
  }

  private func forward(
    _ tile: Tile, _ segment: Segment, keyHead: Int, _ scratch: Scratch, _ qkv: UnsafePointer<Float>,
    _ factors: MatrixOperand, _ output: UnsafeMutablePointer<Float>, lse: UnsafeMutablePointer<Float>
  ) {
    let (group, dim, stride) = (shape.group, shape.headDim, shape.stride)
    let height = tile.rows * group
    gather(tile, segment, from: qkv, stride: stride, column: queryColumn(keyHead), factor: shape.scale, scratch.queries)
    let queries = factor(scratch.queries, rows: height, columns: dim, factors.precision)
    scores(tile, keyHead: keyHead, height: height, queries: queries, factors, scratch.scores)
    for row in 0..<tile.rows {
      let visible = visible(tile, segment, row: row)
      for head in 0..<group {
        let at = row * group + head
        let scores = scratch.scores + at * tile.keys
        let largest = Vectors.largest(scores + visible.lowerBound, count: visible.count)
        let sum = Vectors.exponentiate(scores + visible.lowerBound, count: visible.count, shift: largest)
        scores.update(repeating: 0, count: visible.lowerBound)
        (scores + visible.upperBound).update(repeating: 0, count: tile.keys - visible.upperBound)
        scratch.lse[at] = 1 / sum
        lse[(segment.start + tile.row + row) * shape.queryHeads + keyHead * group + head] = largest + log(sum)
      }
    }
    let weights = factor(scratch.scores, rows: height, columns: tile.keys, factors.precision)
    var beta: Float = 0
    forEachKeyRun(tile) { keyRow, offset, count in
      Matmul.multiply(
        m: height, n: dim, k: count, weights.from(column: offset),
        factors.from(row: keyRow).from(column: valueColumn(keyHead)), beta: beta, scratch.outputs, ldc: dim)
      beta = 1
    }
    for at in 0..<height { Vectors.scale(scratch.outputs + at * dim, count: dim, by: scratch.lse[at]) }
    scatter(tile, segment, scratch.outputs, to: output, stride: shape.outputStride, column: queryColumn(keyHead))
  }

  /// `scores[height, keys]` of a tall block of queries (already scaled) against the tile's keys.
  func scores(
    _ tile: Tile, keyHead: Int, height: Int, queries: MatrixOperand, _ factors: MatrixOperand,
    _ scores: UnsafeMutablePointer<Float>
  ) {
    forEachKeyRun(tile) { keyRow, offset, count in
      Matmul.multiply(
        transposeB: true, m: height, n: count, k: shape.headDim, queries,
        factors.from(row: keyRow).from(column: keyColumn(keyHead)), scores + offset, ldc: tile.keys)
    }
  }
}
