import Collectives
import Foundation
import Kernels
import Tensors

/// How fast threads reach main memory.
struct MemorySpeed: Sendable, Equatable {
  /// GB/s read, by rank.
  var read: [Double]
  /// GB/s read and written while copying, by rank.
  var copy: [Double]

  /// A collective call of about half a second: all ranks at once.
  init(_ job: Job) throws {
    try job.communicator.barrier()
    let own = Self.measure(job.pool)
    let all = try job.communicator.allGather([own.read, own.copy])
    read = all.map { $0[0] }
    copy = all.map { $0[1] }
  }

  /// GB/s of the pool's threads together, on buffers far beyond any cache.
  static func measure(_ pool: ThreadPool) -> (read: Double, copy: Double) {
    let half = 32 << 20
    let memory = AlignedBuffer<Float>(count: 2 * half)
    SyntheticValues.fill(memory.values, pool: pool)
    let start = memory.pointer
    let sums = AlignedBuffer<Float>(count: 16 * pool.threadCount)
    let sum = sums.pointer
    let bytes = Double(2 * half * MemoryLayout<Float>.stride)
    let reading = Stopwatch.median {
      pool.run { thread in
        let range = (2 * half * thread / pool.threadCount)..<(2 * half * (thread + 1) / pool.threadCount)
        sum[16 * thread] = Self.sum(start + range.lowerBound, count: range.count)
      }
    }
    let copying = Stopwatch.median {
      pool.ranges(half, grain: 1 << 12) { range in
        memcpy(start + half + range.lowerBound, start + range.lowerBound, range.count * MemoryLayout<Float>.stride)
      }
    }
    return (bytes / reading / 1e9, bytes / copying / 1e9)
  }

  /// Four sums side by side: one alone would wait for its own additions.
  private static func sum(_ values: UnsafePointer<Float>, count: Int) -> Float {
    let bytes = UnsafeRawPointer(values)
    var sums = (SIMD16<Float>.zero, SIMD16<Float>.zero, SIMD16<Float>.zero, SIMD16<Float>.zero)
    for offset in stride(from: 0, to: count / 64 * 256, by: 256) {
      sums.0 += bytes.loadUnaligned(fromByteOffset: offset, as: SIMD16<Float>.self)
      sums.1 += bytes.loadUnaligned(fromByteOffset: offset + 64, as: SIMD16<Float>.self)
      sums.2 += bytes.loadUnaligned(fromByteOffset: offset + 128, as: SIMD16<Float>.self)
      sums.3 += bytes.loadUnaligned(fromByteOffset: offset + 192, as: SIMD16<Float>.self)
    }
    return (sums.0 + sums.1 + sums.2 + sums.3).sum()
  }
}
