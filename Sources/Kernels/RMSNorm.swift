/// Root mean square normalisation, `y = x / sqrt(mean(x^2) + eps) * w` (HF `LlamaRMSNorm`), over rows of `size` values.
package enum RMSNorm {
  /// Sums of rows of which the weight gradient is made; no more threads than that find work in `backward`.
  package static let sums = 32

  /// `y[rows, size]` from `x[rows, size]`. `y` may be `x`.
  package static func forward(
    _ pool: ThreadPool, rows: Int, size: Int, epsilon: Float, _ x: UnsafePointer<Float>, weight: UnsafePointer<Float>,
    _ y: UnsafeMutablePointer<Float>
  ) {
    pool.ranges(rows) { range in
      for row in range {
        let x = x + row * size
        let y = y + row * size
        let scale = reciprocalRoot(x, size: size, epsilon: epsilon)
        var i = 0
        while i + 16 <= size {
          y.store(x.lanes(i) * scale * weight.lanes(i), i)
          i += 16
        }
        while i < size {
          y[i] = x[i] * scale * weight[i]
          i += 1
        }
      }
    }
  }

  /// `dX[rows, size] += ` the gradient through the norm, `dWeight[size] += ` the sum over rows. `partials` is scratch
  /// of `sums * size`: rows are divided into as many sums whatever the number of threads, so that the bits do not depend
  /// on it.
  package static func backward(
    _ pool: ThreadPool, rows: Int, size: Int, epsilon: Float, _ x: UnsafePointer<Float>, weight: UnsafePointer<Float>,
    _ dY: UnsafePointer<Float>, _ dX: UnsafeMutablePointer<Float>, dWeight: UnsafeMutablePointer<Float>,
    partials: UnsafeMutablePointer<Float>
  ) {
    pool.ranges(sums) { range in
      for sum in range {
        let partial = partials + sum * size
        partial.update(repeating: 0, count: size)
        for row in (rows * sum / sums)..<(rows * (sum + 1) / sums) {
          backwardRow(
            size: size, epsilon: epsilon, x + row * size, weight: weight, dY + row * size, dX + row * size,
            dWeight: partial)
        }
      }
    }
    for sum in 0..<sums { Vectors.add(partials + sum * size, to: dWeight, count: size) }
  }

  /// With s = 1/rms and t = mean(dY * w * x) * s^3: `dX += dY * w * s - x * t`, `dW += dY * x * s`.
  @inline(__always)
  private static func backwardRow(
    size: Int, epsilon: Float, _ x: UnsafePointer<Float>, weight: UnsafePointer<Float>, _ dY: UnsafePointer<Float>,
    _ dX: UnsafeMutablePointer<Float>, dWeight: UnsafeMutablePointer<Float>
  ) {
    let scale = reciprocalRoot(x, size: size, epsilon: epsilon)
    var sum = Lanes.zero
    var rest: Float = 0
    var i = 0
    while i + 16 <= size {
      sum.addProduct(dY.lanes(i) * weight.lanes(i), x.lanes(i))
      i += 16
    }
    while i < size {
      rest += dY[i] * weight[i] * x[i]
      i += 1
    }
    let pull = (sum.total + rest) / Float(size) * scale * scale * scale
    i = 0
    while i + 16 <= size {
      let dY = dY.lanes(i)
      let x = x.lanes(i)
      dX.store(
        dX.lanes(i).addingProduct(dY * weight.lanes(i), Lanes(repeating: scale)).addingProduct(
          x, Lanes(repeating: -pull)), i)
      dWeight.store(dWeight.lanes(i).addingProduct(dY * x, Lanes(repeating: scale)), i)
      i += 16
    }
    while i < size {
      dX[i] += dY[i] * weight[i] * scale - x[i] * pull
      dWeight[i] += dY[i] * x[i] * scale
      i += 1
    }
  }

  @inline(__always)
  private static func reciprocalRoot(_ x: UnsafePointer<Float>, size: Int, epsilon: Float) -> Float {
    1 / (Vectors.dot(x, x, count: size) / Float(size) + epsilon).squareRoot()
  }
}
