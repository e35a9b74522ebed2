extension SegmentAttention {
  /// `dQKV[rows, stride]` (overwritten) from `dOutput[rows, queryHeads * headDim]`, with what the forward pass kept.
  ///
  /// `families` are groups of segments that share keys: prefix first, then the segments that continue it. A task is one
  /// (family, key head): the gradients of the shared prefix's keys sum all three parts on one thread, in the order of
  /// the segments.
  /// - Parameter factors: as in `forward`.
  package func backward(
    _ families: [[Segment]], _ qkv: UnsafePointer<Float>, factors: MatrixOperand? = nil, output: UnsafePointer<Float>,
    lse: UnsafePointer<Float>,
    dOutput: UnsafePointer<Float>, _ dQKV: UnsafeMutablePointer<Float>
  ) {
    let factors = factors ?? MatrixOperand(qkv, stride: shape.stride)
    pool.tasks(families.count * shape.keyHeads) { index, thread in
      let (family, keyHead) = (families[index / shape.keyHeads], index % shape.keyHeads)
      let scratch = scratch(thread)
      for segment in family { clearKeyGradients(segment, keyHead: keyHead, dQKV) }
      for segment in family {
        for row in Swift.stride(from: 0, to: segment.count, by: shape.tileRows) {
          backward(
            tile(segment, at: row), segment, keyHead: keyHead, scratch, qkv, factors, output: output, lse: lse,
            dOutput: dOutput, dQKV)
        }
      }
    }
  }

  private func clearKeyGradients(_ segment: Segment, keyHead: Int, _ dQKV: UnsafeMutablePointer<Float>) {
    for row in segment.start..<(segment.start + segment.count) {
      (dQKV + row * shape.stride + keyColumn(keyHead)).update(repeating: 0, count: shape.headDim)
      (dQKV + row * shape.stride + valueColumn(keyHead)).update(repeating: 0, count: shape.headDim)
    }
  }

  /// With P = softmax(S): dV += P^T dO, dP = dO V^T, dS = P * (dP - rowsum(dO * O)), dQ = dS K, dK += dS^T Q.
  private func backward(
    _ tile: Tile, _ segment: Segment, keyHead: Int, _ scratch: Scratch, _ qkv: UnsafePointer<Float>,
    _ factors: MatrixOperand, output: UnsafePointer<Float>, lse: UnsafePointer<Float>, dOutput: UnsafePointer<Float>,
    _ dQKV: UnsafeMutablePointer<Float>
  ) {
    let (group, dim, stride, keys) = (shape.group, shape.headDim, shape.stride, tile.keys)
    let height = tile.rows * group
    let column = queryColumn(keyHead)
    gather(tile, segment, from: qkv, stride: stride, column: column, factor: shape.scale, scratch.queries)
    gather(tile, segment, from: output, stride: shape.outputStride, column: column, scratch.outputs)
    gather(tile, segment, from: dOutput, stride: shape.outputStride, column: column, scratch.dOutputs)
    for at in 0..<height {
      scratch.delta[at] = Vectors.dot(scratch.outputs + at * dim, scratch.dOutputs + at * dim, count: dim)
    }
    let queries = factor(scratch.queries, rows: height, columns: dim, factors.precision)
    let dOutputs = factor(scratch.dOutputs, rows: height, columns: dim, factors.precision)
    scores(tile, keyHead: keyHead, height: height, queries: queries, factors, scratch.scores)
    forEachKeyRun(tile) { keyRow, offset, count in
      Matmul.multiply(
        transposeB: true, m: height, n: count, k: dim, dOutputs,
        factors.from(row: keyRow).from(column: valueColumn(keyHead)), scratch.dScores + offset, ldc: keys)
    }
    for row in 0..<tile.rows {
      let visible = visible(tile, segment, row: row)
      for head in 0..<group {
        let at = row * group + head
        let lse = lse[(segment.start + tile.row + row) * shape.queryHeads + keyHead * group + head]
        softmaxBackward(
          scratch.scores + at * keys, scratch.dScores + at * keys, keys: keys, visible: visible, lse: lse,
          delta: scratch.delta[at])
      }
    }
    let probabilities = factor(scratch.scores, rows: height, columns: keys, factors.precision)
    let dScores = factor(scratch.dScores, rows: height, columns: keys, factors.precision)
    var beta: Float = 0
    forEachKeyRun(tile) { keyRow, offset, count in
      let dRow = dQKV + keyRow * stride
      Matmul.multiply(
        m: height, n: dim, k: count, alpha: shape.scale, dScores.from(column: offset),
        factors.from(row: keyRow).from(column: keyColumn(keyHead)), beta: beta, scratch.dQueries, ldc: dim)
      beta = 1
      Matmul.multiply(
        transposeA: true, m: count, n: dim, k: height, dScores.from(column: offset), queries, beta: 1,
        dRow + keyColumn(keyHead), ldc: stride)
      Matmul.multiply(
        transposeA: true, m: count, n: dim, k: height, probabilities.from(column: offset), dOutputs, beta: 1,
        dRow + valueColumn(keyHead), ldc: stride)
    }
    scatter(tile, segment, scratch.dQueries, to: dQKV, stride: stride, column: column)
  }

  /// Replaces a row of scores by probabilities, and of dP by dS; keys that are not visible get zero in both.
  @inline(__always)
  private func softmaxBackward(
    _ scores: UnsafeMutablePointer<Float>, _ dScores: UnsafeMutablePointer<Float>, keys: Int, visible: Range<Int>,
    lse: Float,
    delta: Float
  ) {
    scores.update(repeating: 0, count: visible.lowerBound)
    dScores.update(repeating: 0, count: visible.lowerBound)
    (scores + visible.upperBound).update(repeating: 0, count: keys - visible.upperBound)
    (dScores + visible.upperBound).update(repeating: 0, count: keys - visible.upperBound)
    var i = visible.lowerBound
    while i + 16 <= visible.upperBound {
      let p = exponential(scores.lanes(i) - lse)
      scores.store(p, i)
      dScores.store(p * (dScores.lanes(i) - delta), i)
      i += 16
    }
    while i < visible.upperBound {
      let p = exponential(scores[i] - lse)
      scores[i] = p
      dScores[i] = p * (dScores[i] - delta)
      i += 1
    }
  }
}
