import Tensors

/// Causal attention over rows that share prefixes, exact and without padding.
///
/// A segment is a run of rows; its queries see all of the segment's prefix (an earlier run, positions 0 ..<
/// prefixCount) and their own segment up to themselves, within a sliding window where the model has one. Query heads
/// that share a key head are stacked into one tall block, so the products are large even for one head's 64 features.
package struct SegmentAttention {
  /// Rows `start ..< start + count` at positions `prefixCount ...`, continuing rows `prefixStart ..< prefixStart +
  /// prefixCount`.
  package struct Segment: Sendable, Equatable {
    package var prefixStart: Int
    package var prefixCount: Int
    package var start: Int
    package var count: Int

    package init(prefixStart: Int, prefixCount: Int, start: Int, count: Int) {
      self.prefixStart = prefixStart
      self.prefixCount = prefixCount
      self.start = start
      self.count = count
    }
  }

  /// Heads and their place in a row `[q heads | k heads | v heads]` of `stride` values.
  package struct Shape: Sendable, Equatable {
    package var queryHeads: Int
    package var keyHeads: Int
    package var headDim: Int
    /// Keys a query sees, itself included; nil for all before it.
    package var window: Int?
    /// Factor on the scores, usually 1 / sqrt(headDim).
    package var scale: Float

    package init(queryHeads: Int, keyHeads: Int, headDim: Int, window: Int?, scale: Float) {
      self.queryHeads = queryHeads
      self.keyHeads = keyHeads
      self.headDim = headDim
      self.window = window
      self.scale = scale
    }

    package var group: Int { queryHeads / keyHeads }
    package var stride: Int { (queryHeads + 2 * keyHeads) * headDim }
    package var outputStride: Int { queryHeads * headDim }
    /// Query rows of a tile: tall enough for the product, low enough that little above the diagonal is computed in
    /// vain.
    var tileRows: Int { group <= 3 ? 64 : group <= 8 ? 32 : 16 }
    var tileHeight: Int { tileRows * group }
  }

  package let shape: Shape
  let pool: ThreadPool
  let maxKeys: Int
  let scratch: UnsafeMutablePointer<Float>

  /// - Parameters:
  ///   - maxKeys: the longest sequence (prefix and segment) there will be.
  ///   - scratch: `scratchCount` floats.
  package init(_ shape: Shape, pool: ThreadPool, maxKeys: Int, scratch: UnsafeMutablePointer<Float>) {
    self.shape = shape
    self.pool = pool
    self.maxKeys = maxKeys
    self.scratch = scratch
  }

  package static func scratchCount(_ shape: Shape, threads: Int, maxKeys: Int) -> Int {
    threads * perThread(shape, maxKeys: maxKeys)
  }

  private static func perThread(_ shape: Shape, maxKeys: Int) -> Int {
    shape.tileHeight * (2 * maxKeys + 4 * shape.headDim + 2)
  }

  /// One thread's scratch: tall blocks of queries, outputs and their gradients, scores and their gradients, two numbers
  /// a row.
  struct Scratch {
    let queries, outputs, dQueries, dOutputs, scores, dScores, lse, delta: UnsafeMutablePointer<Float>
  }

  func scratch(_ thread: Int) -> Scratch {
    let height = shape.tileHeight
    var next = scratch + thread * Self.perThread(shape, maxKeys: maxKeys)
    func take(_ count: Int) -> UnsafeMutablePointer<Float> {
      defer { next += count }
      return next
    }
    let block = height * shape.headDim
    return Scratch(
      queries: take(block), outputs: take(block), dQueries: take(block), dOutputs: take(block),
      scores: take(height * maxKeys), dScores: take(height * maxKeys), lse: take(height), delta: take(height))
  }

  /// A tile of queries and the keys any of them sees: a part of the prefix, then a part of the segment.
  struct Tile {
    /// First query row of the tile inside its segment, and how many.
    var row: Int
    var rows: Int
    /// Position of the first key.
    var firstKey: Int
    /// First prefix row used and how many; first own row used and how many.
    var prefixRow: Int
    var prefixCount: Int
    var ownRow: Int
    var ownCount: Int

    var keys: Int { prefixCount + ownCount }
  }

  func tile(_ segment: Segment, at row: Int) -> Tile {
    let rows = min(shape.tileRows, segment.count - row)
    let position = segment.prefixCount + row
    let firstKey = shape.window.map { max(position - $0 + 1, 0) } ?? 0
    let prefix = max(segment.prefixCount - firstKey, 0)
    let firstOwn = max(firstKey - segment.prefixCount, 0)
    return Tile(
      row: row, rows: rows, firstKey: firstKey, prefixRow: segment.prefixStart + firstKey, prefixCount: prefix,
      ownRow: segment.start + firstOwn, ownCount: row + rows - firstOwn)
  }

  /// Keys (as a range inside the tile's) that the query at `row` of the tile sees.
  func visible(_ tile: Tile, _ segment: Segment, row: Int) -> Range<Int> {
    let position = segment.prefixCount + tile.row + row
    let first = shape.window.map { max(position - $0 + 1, 0) } ?? 0
    return (first - tile.firstKey)..<(position + 1 - tile.firstKey)
  }

  /// Copies the tile's rows of one group of heads into a tall block `[rows * group, headDim]`, times `factor`.
  func gather(
    _ tile: Tile, _ segment: Segment, from source: UnsafePointer<Float>, stride: Int, column: Int, factor: Float = 1,
    _ block: UnsafeMutablePointer<Float>
  ) {
    let width = shape.group * shape.headDim
    for row in 0..<tile.rows {
      let from = source + (segment.start + tile.row + row) * stride + column
      let to = block + row * width
      to.update(from: from, count: width)
      if factor != 1 { Vectors.scale(to, count: width, by: factor) }
    }
  }

  func scatter(
    _ tile: Tile, _ segment: Segment, _ block: UnsafePointer<Float>, to target: UnsafeMutablePointer<Float>,
    stride: Int,
    column: Int
  ) {
    let width = shape.group * shape.headDim
    for row in 0..<tile.rows {
      (target + (segment.start + tile.row + row) * stride + column).update(from: block + row * width, count: width)
    }
  }

  /// Calls `body(rows' first row, key offset in the tile, count)` for the prefix part and the own part, skipping empty
  /// ones.
  @inline(__always)
  func forEachKeyRun(_ tile: Tile, _ body: (_ row: Int, _ offset: Int, _ count: Int) -> Void) {
    if tile.prefixCount > 0 { body(tile.prefixRow, 0, tile.prefixCount) }
    if tile.ownCount > 0 { body(tile.ownRow, tile.prefixCount, tile.ownCount) }
  }

  /// A block of values side by side as a factor of a product; in bf16 it is rounded where it lies.
  func factor(
    _ block: UnsafeMutablePointer<Float>, rows: Int, columns: Int, _ precision: ProductPrecision
  ) -> MatrixOperand {
    switch precision {
    case .float32: return MatrixOperand(block, stride: columns)
    case .bfloat16:
      BFloat16.roundInPlace(block, count: rows * columns)
      return MatrixOperand(UnsafeRawPointer(block).assumingMemoryBound(to: BFloat16.self), stride: columns)
    }
  }

  func keyColumn(_ keyHead: Int) -> Int { (shape.queryHeads + keyHead) * shape.headDim }
  func valueColumn(_ keyHead: Int) -> Int { (shape.queryHeads + shape.keyHeads + keyHead) * shape.headDim }
  func queryColumn(_ keyHead: Int) -> Int { keyHead * shape.group * shape.headDim }
}
