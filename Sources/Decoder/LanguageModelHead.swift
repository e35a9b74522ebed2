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

  init(_ configuration: DecoderConfiguration, pool: ThreadPool, rows: Int, logitsBudget: Int) {
    vocabSize = configuration.vocabSize
    hiddenSize = configuration.hiddenSize
    self.pool = pool
    blockRows = min(256, max(rows, 1))
    let blocks = (rows + blockRows - 1) / blockRows
    slots = max(1, min(blocks, logitsBudget / (blockRows * vocabSize * 4)))
    logits = AlignedBuffer(count: slots * blockRows * vocabSize)
    logZ = AlignedBuffer(count: rows)
  }

  var bytes: Int { logits.bytes + logZ.bytes }

  private func blocks(_ rows: Int) -> [Range<Int>] {
    stride(from: 0, to: rows, by: blockRows).map { $0..<min($0 + blockRows, rows) }
  }

  /// The slot a block's logits are in; blocks that do not fit take turns in the last one.
  private func slot(_ block: Int) -> UnsafeMutablePointer<Float> {
    logits.pointer + min(block, slots - 1) * blockRows * vocabSize
  }

  /// Writes `log p(label)` of every prediction to `logps`. `hidden` is `[rows, hiddenSize]` after the final norm,
  /// `weight` `[vocabSize, hiddenSize]`, of the same precision.
  func forward(
    _ batch: PackedPairs, hidden: MatrixOperand, weight: MatrixOperand, logps: UnsafeMutableBufferPointer<Float>
  ) {
    precondition(logps.count >= batch.predictionCount, "there are fewer places for log-probabilities than predictions")
    assignPredictions(batch)
    for (index, rows) in blocks(batch.rowCount).enumerated() {
      let logits = slot(index)
      computeLogits("head forward", rows, hidden: hidden, weight: weight, logits)
      pool.timeline.span("softmax forward") {
        TokenLogProbability.logPartition(
          pool, rows: rows.count, vocabulary: vocabSize, logits, logZ.pointer + rows.lowerBound)
      }
      for row in rows {
        for prediction in [first[row], second[row]] where prediction >= 0 {
          let label = Int(batch.labels[Int(prediction)])
          logps[Int(prediction)] = logits[(row - rows.lowerBound) * vocabSize + label] - logZ[row]
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
    func backward(_ rows: Range<Int>, _ logits: UnsafeMutablePointer<Float>) {
      let dLogits = pool.timeline.span("softmax backward") {
        turnIntoGradient(rows, logits, labels: batch.labels, weights: weights, hidden.precision)
      }
      pool.timeline.span("head input gradient") {
        Matmul.inputGradient(
          pool, rows: rows.count, inputs: hiddenSize, outputs: vocabSize, dLogits, weight: weight,
          dHidden + rows.lowerBound * hiddenSize)
      }
      pool.timeline.span("head weight gradient") {
        Matmul.weightGradient(
          pool, rows: rows.count, inputs: hiddenSize, outputs: vocabSize, dLogits, hidden.from(row: rows.lowerBound),
          dWeight)
      }
    }
    let blocks = blocks(batch.rowCount)
    let kept = blocks.count <= slots ? blocks.count : slots - 1
    // Last first: the block whose logits came last is still in the shared slot.
    for (index, rows) in blocks.enumerated().dropFirst(kept).reversed() {
      if index < blocks.count - 1 {
        computeLogits("head recompute", rows, hidden: hidden, weight: weight, slot(index))
      }
      backward(rows, slot(index))
    }
    // Kept logits lie one after another: one long sum over rows is faster than many short ones.
    if kept > 0 { backward(0..<blocks[kept - 1].upperBound, slot(0)) }
  }

  private func computeLogits(
    _ span: StaticString, _ rows: Range<Int>, hidden: MatrixOperand, weight: MatrixOperand,
    _ logits: UnsafeMutablePointer<Float>
  ) {
    pool.timeline.span(span) {
      Matmul.linearByColumns(
        pool, rows: rows.count, inputs: hiddenSize, outputs: vocabSize, hidden.from(row: rows.lowerBound),
        weight: weight, logits)
    }
  }

  /// Overwrites logits by dLoss/dlogits, the sum over the row's labels of w * (onehot - softmax): in fp32, or in bf16 in
  /// the first half of every row.
  private func turnIntoGradient(
    _ rows: Range<Int>, _ logits: UnsafeMutablePointer<Float>, labels: [Int32], weights: UnsafeBufferPointer<Float>,
    _ precision: ProductPrecision
  ) -> MatrixOperand {
    pool.ranges(rows.count) { range in
      for offset in range {
        let row = rows.lowerBound + offset
        let values = logits + offset * vocabSize
        let total = weight(first[row], weights) + weight(second[row], weights)
        TokenLogProbability.softmax(times: -total, vocabulary: vocabSize, logZ: logZ[row], values)
        for prediction in [first[row], second[row]] where prediction >= 0 {
          values[Int(labels[Int(prediction)])] += weights[Int(prediction)]
        }
        if precision == .bfloat16 { BFloat16.roundInPlace(values, count: vocabSize) }
      }
    }
    switch precision {
    case .float32: return MatrixOperand(logits, stride: vocabSize)
    case .bfloat16:
      return MatrixOperand(
        UnsafeRawPointer(logits).assumingMemoryBound(to: BFloat16.self), stride: 2 * vocabSize)
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
