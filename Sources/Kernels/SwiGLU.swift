/// The gated activation of Llama's MLP: `a = silu(g) * u`, where a row of `gateUp` is `[g | u]`.
package enum SwiGLU {
  /// `a[rows, size]` from `gateUp[rows, 2 * size]`.
  package static func forward(
    _ pool: ThreadPool, rows: Int, size: Int, _ gateUp: UnsafePointer<Float>, _ a: UnsafeMutablePointer<Float>
  ) {
    pool.ranges(rows) { range in
      for row in range {
        let gate = gateUp + row * 2 * size
        let a = a + row * size
        forEachBlock(size) { i, count in
          let g = load(gate, i, count)
          store(g * sigmoid(g) * load(gate + size, i, count), to: a, i, count)
        }
      }
    }
  }

  /// Overwrites `gateUp` with its gradient, given `dA[rows, size]`, and writes `a` once more: it takes the same sigmoid.
  package static func backward(
    _ pool: ThreadPool, rows: Int, size: Int, _ dA: UnsafePointer<Float>, _ gateUp: UnsafeMutablePointer<Float>,
    _ a: UnsafeMutablePointer<Float>
  ) {
    pool.ranges(rows) { range in
      for row in range {
        let gate = gateUp + row * 2 * size
        let up = gate + size
        let dA = dA + row * size
        let a = a + row * size
        forEachBlock(size) { i, count in
          let g = load(gate, i, count)
          let s = sigmoid(g)
          let d = load(dA, i, count)
          // silu'(g) = s * (1 + g * (1 - s))
          let slope = s * (Lanes(repeating: 1) + g * (Lanes(repeating: 1) - s))
          let u = load(up, i, count)
          let dGate = d * u * slope
          store(g * s * u, to: a, i, count)
          store(d * g * s, to: up, i, count)
          store(dGate, to: gate, i, count)
        }
      }
    }
  }

  @inline(__always) private static func sigmoid(_ x: Lanes) -> Lanes {
    Lanes(repeating: 1) / (Lanes(repeating: 1) + exponential(-x))
  }

  @inline(__always) private static func forEachBlock(_ size: Int, _ body: (_ index: Int, _ count: Int) -> Void) {
    var i = 0
    while i + 16 <= size {
      body(i, 16)
      i += 16
    }
    if i < size { body(i, size - i) }
  }

  @inline(__always) private static func load(_ x: UnsafePointer<Float>, _ i: Int, _ count: Int) -> Lanes {
    count == 16 ? x.lanes(i) : partialLanes(x + i, count: count, fill: 0)
  }

  @inline(__always) private static func store(_ value: Lanes, to x: UnsafeMutablePointer<Float>, _ i: Int, _ count: Int)
  {
    if count == 16 { return x.store(value, i) }
    for lane in 0..<count { x[i + lane] = value[lane] }
  }
}
