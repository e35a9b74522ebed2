import Glibc
import Timeline

/// What communication moved and took on one rank, since its reducer was made.
package struct CommunicationTotals: Sendable, Equatable {
  /// Bytes of gradients summed, and in how many buckets.
  package var reducedBytes = 0
  package var reducedBuckets = 0
  /// Seconds in which buckets were being summed, hidden behind backward or not; waiting for other ranks included.
  package var busySeconds = 0.0
  /// Seconds in which this rank's computing thread did nothing but wait for sums and parameters.
  package var exposedSeconds = 0.0
  /// The part of them after backward had ended: for the last buckets, where a tied embedding lies, and for whatever was
  /// not done by then.
  package var tailSeconds = 0.0

  package init() {}

  /// Seconds of a clock that never goes back.
  package static func now() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) + 1e-9 * Double(time.tv_nsec)
  }

  package static func - (after: CommunicationTotals, before: CommunicationTotals) -> CommunicationTotals {
    var difference = after
    difference.reducedBytes -= before.reducedBytes
    difference.reducedBuckets -= before.reducedBuckets
    difference.busySeconds -= before.busySeconds
    difference.exposedSeconds -= before.exposedSeconds
    difference.tailSeconds -= before.tailSeconds
    return difference
  }
}

/// Counts for `CommunicationTotals`: each property is written by one thread, and read by others when that is idle.
final class CommunicationMeter: @unchecked Sendable {
  /// Written by the thread that sums buckets.
  var summing = CommunicationTotals()
  /// The same: squares of this rank's own gradients of the step, before they are summed over ranks.
  var ownSquares = 0.0
  /// Written by the thread that computes.
  var waiting = CommunicationTotals()
  /// Written by the thread that computes, while no bucket is summed.
  var timeline: Timeline?

  var totals: CommunicationTotals {
    var totals = summing
    totals.exposedSeconds = waiting.exposedSeconds
    totals.tailSeconds = waiting.tailSeconds
    return totals
  }
}
