/// Where each parameter lies in one flat arena of fp32 values. Gradients and optimizer moments use the same layout, and
/// the order is that in which backward finishes gradients, so that a finished part is always a contiguous beginning.
package struct ParameterLayout: Sendable {
  package struct Entry: Sendable, Equatable {
    /// Hugging Face's name of the tensor.
    package var name: String
    package var shape: [Int]
    package var offset: Int
    /// Whether weight decay applies: not to biases and norm weights.
    package var decays: Bool

    package var count: Int { shape.reduce(1, *) }
    package var range: Range<Int> { offset..<(offset + count) }
  }

  package private(set) var entries: [Entry] = []
  package private(set) var count = 0

  package init() {}

  /// Adds a tensor at the end and returns its offset.
  @discardableResult
  package mutating func append(_ name: String, _ shape: [Int], decays: Bool = true) -> Int {
    let entry = Entry(name: name, shape: shape, offset: count, decays: decays)
    entries.append(entry)
    count += entry.count
    return entry.offset
  }

  /// Ranges of the arena that weight decay applies to, joined where they touch.
  package var decayRanges: [Range<Int>] {
    var ranges: [Range<Int>] = []
    for entry in entries where entry.decays {
      if let last = ranges.last, last.upperBound == entry.offset {
        ranges[ranges.count - 1] = last.lowerBound..<entry.range.upperBound
      } else {
        ranges.append(entry.range)
      }
    }
    return ranges
  }
}
