/// Parts `first ..< first + width` of a step's gradients, summed: a complete subtree of the one tree by which parts are
/// added up.
///
/// The tree depends on the number of parts alone: neighbours are added, then neighbouring pairs, and so on; what is left
/// over when the number is no power of two is added from the right. Whoever holds which parts, every sum in it is of the
/// same two numbers, so that the total has the same bits on any number of ranks.
package struct PartSpan: Sendable, Hashable {
  package let first: Int
  /// A power of two that divides `first`.
  package let width: Int

  package init(part: Int) { (first, width) = (part, 1) }

  private init(first: Int, width: Int) { (self.first, self.width) = (first, width) }

  /// The sum of this span and `next`, when that is a sum of the tree.
  package func joined(with next: PartSpan) -> PartSpan? {
    guard width == next.width, next.first == first + width, first % (2 * width) == 0 else { return nil }
    return PartSpan(first: first, width: 2 * width)
  }

  /// The spans that are left when all of `parts`, consecutive ones, are added up as far as they go without the others.
  package static func covering(_ parts: Range<Int>) -> [PartSpan] {
    var spans: [PartSpan] = []
    for part in parts { push(PartSpan(part: part), onto: &spans) }
    return spans
  }

  /// The most spans that are held at a time, the part being computed included, by whoever computes `parts` in order.
  package static func mostHeld(_ parts: Range<Int>) -> Int {
    var spans: [PartSpan] = []
    var most = 0
    for part in parts {
      most = max(most, spans.count + 1)
      push(PartSpan(part: part), onto: &spans)
    }
    return most
  }

  private static func push(_ span: PartSpan, onto spans: inout [PartSpan]) {
    if let last = spans.last, let joined = last.joined(with: span) {
      spans.removeLast()
      push(joined, onto: &spans)
    } else {
      spans.append(span)
    }
  }
}
