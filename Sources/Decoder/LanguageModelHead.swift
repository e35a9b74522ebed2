import Kernels
import Packing
import Tensors
import Timeline

/// From hidden states to the log-probability of each label and back, a block of rows at a time: a full rows x
/// vocabulary matrix for the whole micro-batch exists only as far as `logitsBudget` allows; blocks beyond it are
/// computed again in backward.
final class LanguageModelHead {
  private let vocabSize, hiddenSize: Int
  private let pool: ThreadPool
  private let blockRows: Int
  private let slots: Int
  /// `[slots, blockRows, vocabSize]`.
  private let logits: AlignedBuffer<Float>
  /// `[rows]`: log of the sum of e^logit.
  private let logZ: AlignedBuffer<Float>
  /// The predictions each row makes, at most two; -1 for none.
  private var first: [Int32] = []
  private var second: [Int32] = []

  /// - Parameter keptRows: rows whose logits are to stay until backward, as far as `logitsBudget` bytes go.
  init(_ configuration: DecoderConfiguration, pool: ThreadPool, rows: Int, keptRows: Int, logitsBudget: Int) {
    vocabSize = configuration.vocabSize
    hiddenSize = configuration.hiddenSize
    self.pool = pool
    blockRows = min(256, max(rows, 1))
    let blocks = (min(rows, keptRows) + blockRows - 1) / blockRows
    slots = max(1, min(blocks, logitsBudget / (blockRows * vocabSize * 4)))
    logits = AlignedBuffer(count: slots * blockRows * vocabSize)
    logZ = AlignedBuffer(count: rows)
  }

  var bytes: Int { logits.bytes + logZ.bytes }

  /// Rows that are computed together, and where their logits go.
  private struct Block {
    var rows: Range<Int>
    var logits: UnsafeMutablePointer<Float>
  }

  /// Rows whose logits stay from forward to backward make one block: long products are faster. What does not fit comes
  /// after them in blocks that take turns in the last slot.
  private func blocks(_ rows: Int) -> (kept: Block, passing: [Block]) {
    let kept = rows <= slots * blockRows ? rows : (slots - 1) * blockRows
    let last = logits.pointer + (slots - 1) * blockRows * vocabSize
    return (
      Block(rows: 0..<kept, logits: logits.pointer),
      stride(from: kept, to: rows, by: blockRows).map {
        Block(rows: $0..<min($0 + blockRows, rows), logits: last)
      }
    )
  }

  /// Writes `log p(label)` of every prediction to `logps`. `hidden` is `[rows, hiddenSize]` after the final norm,
  /// `weight` `[vocabSize, hiddenSize]`, of the same precision.
  func forward(
    _ batch: PackedPairs, hidden: MatrixOperand, weight: MatrixOperand, logps: UnsafeMutableBufferPointer<Float>
  ) {
    precondition(logps.count >= batch.predictionCount, "there are fewer places for log-probabilities than predictions")
    assignPredictions(batch)
    let (kept, passing) = blocks(batch.rowCount)
    for block in [kept] + passing {
      let rows = block.rows
      computeLogits("head forward", block, hidden: hidden, weight: weight)
      pool.timeline.span("softmax forward") {
        TokenLogProbability.logPartition(
          pool, rows: rows.count, vocabulary: vocabSize, block.logits, logZ.pointer + rows.lowerBound)
      }
      for row in rows {
        for prediction in [first[row], second[row]] where prediction >= 0 {
          let label = Int(batch.labels[Int(prediction)])
          logps[Int(prediction)] = block.logits[(row - rows.lowerBound) * vocabSize + label] - logZ[row]
        }
      }
    }
  }

  /// `dHidden[rows, hiddenSize]` (overwritten) and `dWeight += `, given each prediction's dLoss/dlogp. Follows
  /// `forward` on the same batch, with the same operands.
  func backward(
    _ batch: PackedPairs, weights: UnsafeBufferPointer<Float>, hidden: MatrixOperand, weight: MatrixOperand,
    dHidden: UnsafeMutablePointer<Float>, dWeight: UnsafeMutablePointer<Float>
  ) {
    let (kept, passing) = blocks(batch.rowCount)
    // Last first: the block whose logits came last is still in the shared slot.
    for (index, block) in passing.enumerated().reversed() {
      if index < passing.count - 1 {
        computeLogits("head recompute", block, hidden: hidden, weight: weight)
      }
      backward(block, batch.labels, weights, hidden, weight, dHidden, dWeight)
    }
    backward(kept, batch.labels, weights, hidden, weight, dHidden, dWeight)
  }

  private func backward(
    _ block: Block, _ labels: [Int32], _ weights: UnsafeBufferPointer<Float>, _ hidden: MatrixOperand,
    _ weight: MatrixOperand, _ dHidden: UnsafeMutablePointer<Float>, _ dWeight: UnsafeMutablePointer<Float>
  ) {
    let (count, first) = (block.rows.count, block.rows.lowerBound)
    let dLogits = pool.timeline.span("softmax backward") {
      turnIntoGradient(block, labels: labels, weights: weights, hidden.precision)
    }
    pool.timeline.span("head input gradient") {
      Matmul.inputGradient(
        pool, rows: count, inputs: hiddenSize, outputs: vocabSize, dLogits, weight: weight,
        dHidden + first * hiddenSize)
    }
    pool.timeline.span("head weight gradient") {
      Matmul.weightGradient(
        pool, rows: count, inputs: hiddenSize, outputs: vocabSize, dLogits, hidden.from(row: first), dWeight)
    }
  }

  private func computeLogits(_ span: StaticString, _ block: Block, hidden: MatrixOperand, weight: MatrixOperand) {
    pool.timeline.span(span) {
      Matmul.linearByColumns(
        pool, rows: block.rows.count, inputs: hiddenSize, outputs: vocabSize, hidden.from(row: block.rows.lowerBound),
        weight: weight, block.logits)
    }
  }

  /// Overwrites logits by dLoss/dlogits, the sum over the row's labels of w * (onehot - softmax): in fp32, or in bf16 in
  /// the first half of every row.
  private func turnIntoGradient(
    _ block: Block, labels: [Int32], weights: UnsafeBufferPointer<Float>, _ precision: ProductPrecision
  ) -> MatrixOperand {
    pool.ranges(block.rows.count) { range in
      for offset in range {
        let row = block.rows.lowerBound + offset
        let values = block.logits + offset * vocabSize
        let total = weight(first[row], weights) + weight(second[row], weights)
        TokenLogProbability.softmax(times: -total, vocabulary: vocabSize, logZ: logZ[row], values)
        for prediction in [first[row], second[row]] where prediction >= 0 {
          values[Int(labels[Int(prediction)])] += weights[Int(prediction)]
        }
        if precision == .bfloat16 { BFloat16.roundInPlace(values, count: vocabSize) }
      }
    }
    switch precision {
    case .float32: return MatrixOperand(block.logits, stride: vocabSize)
    case .bfloat16:
      return MatrixOperand(
        UnsafeRawPointer(block.logits).assumingMemoryBound(to: BFloat16.self), stride: 2 * vocabSize)
    }
  }

  @inline(__always)
  private func weight(_ prediction: Int32, _ weights: UnsafeBufferPointer<Float>) -> Float {
    prediction < 0 ? 0 : weights[Int(prediction)]
  }

  private func assignPredictions(_ batch: PackedPairs) {
    first = [Int32](repeating: -1, count: batch.rowCount)
    second = first
    for (prediction, row) in batch.predictionRows.enumerated() {
      if first[Int(row)] < 0 { first[Int(row)] = Int32(prediction) } else { second[Int(row)] = Int32(prediction) }
    }
  }
}
