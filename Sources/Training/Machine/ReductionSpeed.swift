import Collectives
import Foundation
import Tensors

/// Bandwidth of summing a buffer over all ranks; the same on every rank.
struct ReductionSpeed {
  var worldSize: Int
  /// Bytes of the buffer divided by the seconds of the slowest rank, in GB/s; best of a few. Empty with one rank.
  var speeds: [(bytes: Int, gigabytesPerSecond: Double)] = []

  private static let rounds = 6
  /// Slow networks get fewer rounds.
  private static let secondsPerSize = 1.5

  /// A collective call. Also checks that the sums are right.
  ///
  /// - Parameter sizes: of the buffers, in bytes; multiples of 4.
  init(_ communicator: Communicator, sizes: [Int], beforeEach: (String) -> Void = { _ in }) throws {
    worldSize = communicator.worldSize
    guard worldSize > 1 else { return }
    let buffer = AlignedBuffer<Float>(count: (sizes.max() ?? 0) / MemoryLayout<Float>.stride)
    for size in sizes {
      beforeEach(Self.name(size))
      let values = UnsafeMutableBufferPointer(start: buffer.pointer, count: size / MemoryLayout<Float>.stride)
      var (best, total, round) = (Double.infinity, 0.0, 0)
      repeat {
        values.update(repeating: 1)
        try communicator.barrier()
        let began = ProcessInfo.processInfo.systemUptime
        try communicator.allReduce(sum: values)
        var seconds = [ProcessInfo.processInfo.systemUptime - began]
        try Self.requireSum(values, communicator)
        try communicator.agree(max: &seconds)
        best = min(best, seconds[0])
        total += seconds[0]
        round += 1
      } while round < Self.rounds && total < Self.secondsPerSize
      speeds.append((size, Double(size) / max(best, 1e-9) / 1e9))
    }
  }

  /// Every rank gave ones.
  private static func requireSum(
    _ values: UnsafeMutableBufferPointer<Float>, _ communicator: Communicator
  ) throws {
    let expected = Float(communicator.worldSize)
    try communicator.together {
      if let index = values.firstIndex(where: { $0 != expected }) {
        throw WrongSum(
          description:
            "an all-reduce of \(name(values.count * MemoryLayout<Float>.stride)) gave \(values[index]) at value \(index), expected \(expected)"
        )
      }
    }
  }

  private struct WrongSum: Error, CustomStringConvertible {
    var description: String
  }

  /// `64 KB`, `1 MB`: sizes are powers of two.
  static func name(_ bytes: Int) -> String { bytes < 1 << 20 ? "\(bytes >> 10) KB" : "\(bytes >> 20) MB" }

  func summary(nodes: Int) -> String {
    guard worldSize > 1 else { return "not measured: one rank has nothing to sum" }
    let place = nodes == 1 ? "inside one host" : "between \(nodes) hosts"
    return speeds.map { "\(Self.name($0.bytes)) at \(SelfCheck.number($0.gigabytesPerSecond)) GB/s" }
      .joined(separator: ", ") + ", " + place
  }
}
