/// Who sums, updates and keeps what: the arena cut into buckets, in the order in which backward finishes them, and each
/// bucket into one slice a rank. All slices of a bucket have the same size but for a grain, so every rank has its even
/// share of every bucket and a bucket can be summed as soon as it is ready.
///
///     arena     |   bucket 0    |   bucket 1    | ... | last |
///     bucket    | place 0: node 0, 1, ... | place 1: node 0, 1, ... | ...
///
/// Ranks at the same place of different nodes have neighbouring slices: together they are the part of the bucket that
/// is summed at that place within every node first.
package struct ShardPlan: Sendable, Equatable {
  package let valueCount: Int
  package let bucketValues: Int
  package let grid: RankGrid
  /// Position of each rank's slice within a bucket.
  private let positions: [Int]

  /// Slices begin at multiples of this within a bucket.
  package let grain: Int

  /// - Parameters:
  ///   - bucketValues: of all buckets but the last, which may be smaller.
  ///   - grain: a cache line of fp32 values unless given.
  package init(valueCount: Int, bucketValues: Int, grid: RankGrid, grain: Int = 16) {
    precondition(valueCount >= 0 && bucketValues > 0 && grain > 0)
    self.grain = grain
    self.valueCount = valueCount
    self.bucketValues = bucketValues
    self.grid = grid
    positions = grid.places.map { $0.place * grid.rowCount + $0.row }
  }

  package var rankCount: Int { positions.count }
  package var bucketCount: Int { (valueCount + bucketValues - 1) / bucketValues }

  /// Values of the arena that make up a bucket.
  package func bucket(_ index: Int) -> Range<Int> {
    precondition(index >= 0 && index < bucketCount, "there is no bucket \(index) of \(bucketCount)")
    return index * bucketValues..<min((index + 1) * bucketValues, valueCount)
  }

  /// Values of the arena that are a rank's of a bucket; may be none in small ones.
  package func slice(_ bucket: Int, of rank: Int) -> Range<Int> {
    cut(bucket, positions[rank]..<positions[rank] + 1)
  }

  /// The slices of all ranks at a place, which lie side by side.
  package func part(_ bucket: Int, at place: Int) -> Range<Int> {
    cut(bucket, place * grid.rowCount..<(place + 1) * grid.rowCount)
  }

  /// All of a rank's slices that are not empty, ascending.
  package func slices(of rank: Int) -> [Range<Int>] {
    (0..<bucketCount).map { slice($0, of: rank) }.filter { !$0.isEmpty }
  }

  /// How many buckets lie entirely below `offset`.
  package func bucketsComplete(below offset: Int) -> Int {
    offset >= valueCount ? bucketCount : offset / bucketValues
  }

  private func cut(_ index: Int, _ positions: Range<Int>) -> Range<Int> {
    let whole = bucket(index)
    let grains = (whole.count + grain - 1) / grain
    func begin(_ position: Int) -> Int {
      whole.lowerBound + min(grains * position / rankCount * grain, whole.count)
    }
    return begin(positions.lowerBound)..<begin(positions.upperBound)
  }
}
