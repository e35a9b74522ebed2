package import Collectives
import Glibc

/// Adds the ranks' gradients up, bucket by bucket, in the order in which backward finishes them.
///
/// The arena is laid out in that order, so it becomes ready from offset 0 upward and a bucket is a contiguous slice.
/// The sum is not divided: the loss weights already carry the counts of the whole step. One step is: `ready(upTo:)`
/// any number of times during the last micro-batch, then `finish()`. A rank without a micro-batch calls `finish()`
/// alone; all ranks issue the same buckets in the same order.
///
/// Between `ready(upTo:)` and `finish()` the slices already handed over belong to the reducer: backward must not
/// touch them.
package final class GradientReducer {
  package let gradients: UnsafeMutableBufferPointer<Float>
  package let bucketCount: Int
  /// Of the whole run: bytes this rank handed to all-reduce, the time that took in seconds, and the number of buckets.
  package private(set) var reducedBytes = 0
  package private(set) var reduceSeconds = 0.0
  package private(set) var reducedBuckets = 0

  let communicator: Communicator
  private let bucketValues: Int
  /// Values of this step that are already handed over: a whole number of buckets, or all.
  private var launched = 0
  private var announced = 0

  /// - Parameters:
  ///   - gradients: the arena, of the same size on all ranks; it must outlive the reducer.
  ///   - bucketBytes: size of a bucket, at least one value.
  package init(
    communicator: Communicator, gradients: UnsafeMutableBufferPointer<Float>, bucketBytes: Int = 32 << 20
  ) {
    self.communicator = communicator
    self.gradients = gradients
    bucketValues = max(bucketBytes / MemoryLayout<Float>.stride, 1)
    bucketCount = (gradients.count + bucketValues - 1) / bucketValues
  }

  /// Backward will not touch the gradients below `offset` again in this step: every bucket that is complete thereby
  /// is summed over ranks.
  ///
  /// - Precondition: offsets of one step do not decrease.
  package func ready(upTo offset: Int) throws {
    precondition(
      offset >= announced && offset <= gradients.count,
      "gradients are ready up to \(offset) after \(announced) of \(gradients.count)")
    announced = offset
    while launched + bucketValues <= offset { try launch(bucketValues) }
  }

  /// Sums what is left. Afterwards the whole arena holds the sum over ranks, with the same bits on all of them, and a
  /// new step may begin.
  package func finish() throws {
    while launched < gradients.count { try launch(min(bucketValues, gradients.count - launched)) }
    launched = 0
    announced = 0
  }

  private func launch(_ count: Int) throws {
    let bucket = UnsafeMutableBufferPointer(rebasing: gradients[launched..<launched + count])
    launched += count
    guard communicator.worldSize > 1 else { return }
    let start = Self.seconds()
    try communicator.allReduce(sum: bucket)
    reduceSeconds += Self.seconds() - start
    reducedBytes += count * MemoryLayout<Float>.stride
    reducedBuckets += 1
  }

  private static func seconds() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) + 1e-9 * Double(time.tv_nsec)
  }
}
