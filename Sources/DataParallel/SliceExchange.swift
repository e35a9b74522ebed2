import Collectives

/// The two halves of an all-reduce among a few ranks, the members, over slices of an arena that all of them have.
///
/// `slices` has one range a member, in the order of members and the same on all of them. One thread at a time may call.
protocol SliceExchange: AnyObject {
  /// Leaves in each member's own slice the sum of all members' values, formed in the order of members, so that it has
  /// the same bits in every run. The other slices stay as they are.
  func reduceScatter(_ arena: UnsafeMutablePointer<Float>, _ slices: [Range<Int>]) throws(MPIError)

  /// Copies each member's own slice to all members.
  func allGather(_ arena: UnsafeMutablePointer<Float>, _ slices: [Range<Int>]) throws(MPIError)
}

/// What gradients are between nodes. Sums are fp32 in any case.
package enum WireDType: String, Sendable, CaseIterable {
  case fp32, bf16
}
