/// Rotary position embedding in HF's layout: feature i of a head is paired with feature i + dim/2 (`rotate_half`).
package enum RotaryEmbedding {
  /// Turns `heads` heads of `headDim` at the start of each row of `x` (rows `stride` apart) by the angles of that row.
  ///
  /// `cosine` and `sine` hold `rotaryDim / 2` values a row; features beyond `rotaryDim` stay as they are.
  /// `inverse` turns back, which is also the gradient.
  package static func rotate(
    _ pool: ThreadPool, rows: Int, heads: Int, headDim: Int, rotaryDim: Int, stride: Int, cosine: UnsafePointer<Float>,
    sine: UnsafePointer<Float>, inverse: Bool, _ x: UnsafeMutablePointer<Float>
  ) {
    let half = rotaryDim / 2
    let sign: Float = inverse ? -1 : 1
    pool.ranges(rows) { range in
      for row in range {
        let cosine = cosine + row * half
        let sine = sine + row * half
        for head in 0..<heads {
          let low = x + row * stride + head * headDim
          let high = low + half
          var i = 0
          while i + 16 <= half {
            let (a, b, c, s) = (low.lanes(i), high.lanes(i), cosine.lanes(i), sine.lanes(i) * sign)
            low.store(a * c - b * s, i)
            high.store(b * c + a * s, i)
            i += 16
          }
          while i < half {
            let (a, b, c, s) = (low[i], high[i], cosine[i], sine[i] * sign)
            low[i] = a * c - b * s
            high[i] = b * c + a * s
            i += 1
          }
        }
      }
    }
  }
}
