#if canImport(Glibc)
  import Glibc
#endif

/// Log-probabilities of labels from rows of logits, and the gradient with respect to those logits, in place.
package enum TokenLogProbability {
  /// log of the sum of e^logits, for each of `rows` rows of `vocabulary` logits.
  package static func logPartition(
    _ pool: ThreadPool, rows: Int, vocabulary: Int, _ logits: UnsafePointer<Float>, _ logZ: UnsafeMutablePointer<Float>
  ) {
    pool.ranges(rows) { range in
      for row in range {
        let x = logits + row * vocabulary
        let largest = Vectors.largest(x, count: vocabulary)
        logZ[row] = largest + log(Vectors.exponentialSum(x, count: vocabulary, shift: largest))
      }
    }
  }

  /// Overwrites a row of logits with `factor * softmax(logits)`. With weights w = dLoss/dlogp of the row's labels the
  /// gradient is the sum of w * (onehot - softmax): `factor` is minus the sum of w, and the caller then adds w at each
  /// label.
  package static func softmax(
    times factor: Float, vocabulary: Int, logZ: Float, _ logits: UnsafeMutablePointer<Float>
  ) {
    let shift = Lanes(repeating: logZ)
    var i = 0
    while i + 16 <= vocabulary {
      logits.store(exponential(logits.lanes(i) - shift) * factor, i)
      i += 16
    }
    while i < vocabulary {
      logits[i] = exponential(logits[i] - logZ) * factor
      i += 1
    }
  }
}
