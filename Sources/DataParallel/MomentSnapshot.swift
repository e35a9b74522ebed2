package import Kernels
import Tensors

/// Where moments can be had, a part of the arena at a time.
package protocol MomentSource: AnyObject {
  /// - Precondition: `range` lies within one of the ranges this rank holds, or is empty.
  func moments(_ moment: AdamWOptimizer.Moment, of range: Range<Int>) -> UnsafeMutableBufferPointer<Float>
}

extension AdamWOptimizer: MomentSource {}

/// This rank's moments as they were when they were copied, for whoever writes them while training goes on.
package final class MomentSnapshot: MomentSource {
  private let optimizer: AdamWOptimizer
  private let first: AlignedBuffer<Float>
  private let second: AlignedBuffer<Float>

  /// Memory is taken and not touched.
  package init(of optimizer: AdamWOptimizer) {
    self.optimizer = optimizer
    first = AlignedBuffer(count: optimizer.moments(.first).count)
    second = AlignedBuffer(count: optimizer.moments(.second).count)
  }

  package var bytes: Int { first.bytes + second.bytes }

  /// Copies the moments as they are now.
  package func take(_ pool: ThreadPool) {
    for moment in AdamWOptimizer.Moment.allCases {
      pool.copy(UnsafeBufferPointer(optimizer.moments(moment)), to: moment == .first ? first.pointer : second.pointer)
    }
  }

  package func moments(_ moment: AdamWOptimizer.Moment, of range: Range<Int>) -> UnsafeMutableBufferPointer<Float> {
    guard !range.isEmpty else { return UnsafeMutableBufferPointer(start: nil, count: 0) }
    let values = moment == .first ? first.values : second.values
    return UnsafeMutableBufferPointer(rebasing: values[optimizer.place(of: range)])
  }
}
