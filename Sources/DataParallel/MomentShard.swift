import Collectives
import Tensors

/// A rank's even share of AdamW's moments, which it writes itself: its slices of the plan, whether it holds those alone or
/// all.
package struct MomentShard {
  /// Ranges of the arena, ascending and not empty.
  package let slices: [Range<Int>]
  private let source: any MomentSource

  /// - Parameters:
  ///   - source: an optimizer, or a snapshot of one.
  ///   - reducer: says which slices are this rank's.
  package init(_ source: any MomentSource, _ reducer: GradientReducer) {
    self.source = source
    slices = reducer.plan.slices(of: reducer.communicator.rank)
  }

  /// Calls `body` with the first moments of all slices, in order, then with the second ones.
  package func read(_ body: (UnsafeBufferPointer<Float>) throws -> Void) throws {
    for moment in AdamWOptimizer.Moment.allCases {
      for slice in slices { try body(UnsafeBufferPointer(source.moments(moment, of: slice))) }
    }
  }
}

/// A part of the arena whose moments, both, one rank can read from a file.
package struct StoredPart: Sendable, Equatable {
  package var range: Range<Int>
  package var rank: Int

  package init(_ range: Range<Int>, rank: Int) {
    self.range = range
    self.rank = rank
  }

  /// Whether `parts`, ascending, make up an arena without holes and overlaps.
  package static func cover(_ parts: [StoredPart], count: Int) -> Bool {
    var end = 0
    for part in parts {
      guard part.range.lowerBound == end, !part.range.isEmpty else { return false }
      end = part.range.upperBound
    }
    return end == count
  }
}
