import Collectives

/// The two halves of an all-reduce among a few ranks, the members, over slices of an arena that all of them have.
///
/// `slices` has one range a member, in the order of members and the same on all of them. One thread at a time may call.
protocol SliceExchange: AnyObject {
  /// Leaves in each member's own slice of `arena` the sum of all members' values, by the tree of their spans, so that it
  /// has the same bits in every run. The other slices stay as they are.
  func reduceScatter(
    _ sums: PartialSums, _ slices: [Range<Int>], into arena: UnsafeMutablePointer<Float>
  ) throws(MPIError)

  /// Copies each member's own slice to all members.
  func allGather(_ arena: UnsafeMutablePointer<Float>, _ slices: [Range<Int>]) throws(MPIError)
}

/// What the members of an exchange bring into a sum.
package struct PartialSums {
  /// Of each member, in the order of members; their spans ascend from member to member. A member may have none.
  package let spans: [[PartSpan]]
  /// This member's arenas, one for each of its spans.
  package let arenas: [UnsafeMutablePointer<Float>]

  package init(spans: [[PartSpan]], arenas: [UnsafeMutablePointer<Float>]) {
    self.spans = spans
    self.arenas = arenas
  }

  /// One arena a member.
  static func one(of members: Int, _ arena: UnsafeMutablePointer<Float>) -> PartialSums {
    PartialSums(spans: (0..<members).map { [PartSpan(part: $0)] }, arenas: [arena])
  }

  var mostSpans: Int { spans.map(\.count).max() ?? 0 }
}

/// What gradients are between nodes. Sums are fp32 in any case.
package enum WireDType: String, Sendable, CaseIterable {
  case fp32, bf16
}
