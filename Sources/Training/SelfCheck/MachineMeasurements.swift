import Collectives
import Foundation
import Kernels
import Tensors

/// What each rank's matrix products reach while all ranks multiply at once; the same on every rank.
struct ProductSpeed {
  /// GFLOP/s and the instruction set of the matrix products, by rank.
  var gigaflops: [Double]
  var instructionSets: [String]

  init(gigaflops: [Double], instructionSets: [String]) {
    self.gigaflops = gigaflops
    self.instructionSets = instructionSets
  }

  /// A collective call of about a third of a second.
  init(_ job: Job) throws {
    let communicator = job.communicator
    try communicator.barrier()
    let estimate = MachineSpeed.matmulGFLOPs(job.pool, rounds: 1)
    // A round is about 2 GFLOP a thread; ranks that share a core need several for a fair view.
    let rounds = 0.3 * estimate / (2 * Double(job.pool.threadCount))
    let speed = max(estimate, MachineSpeed.matmulGFLOPs(job.pool, rounds: Int(min(max(rounds, 2), 40))))
    gigaflops = try communicator.allGather(Int(bitPattern: UInt(speed.bitPattern))).map {
      Double(bitPattern: UInt64(UInt(bitPattern: $0)))
    }
    instructionSets = try communicator.allGather(Matmul.instructionSet)
  }

  var median: Double { gigaflops.sorted()[gigaflops.count / 2] }
  var slowest: Int { gigaflops.indices.min { gigaflops[$0] < gigaflops[$1] } ?? 0 }
  var fastest: Int { gigaflops.indices.max { gigaflops[$0] < gigaflops[$1] } ?? 0 }

  var summary: String {
    var names: [(name: String, ranks: [Int])] = []
    for (rank, name) in instructionSets.enumerated() {
      if let index = names.firstIndex(where: { $0.name == name }) {
        names[index].ranks.append(rank)
      } else {
        names.append((name, [rank]))
      }
    }
    let kernels =
      names.count == 1
      ? names[0].name : names.map { "\($0.name) (rank \(HostReport.ranges($0.ranks)))" }.joined(separator: ", ")
    let speeds = String(format: "%.0f", median)
    guard gigaflops.count > 1 else { return "oneDNN, \(kernels); \(speeds) GFLOP/s in fp32" }
    return "oneDNN, \(kernels); \(speeds) GFLOP/s a rank in fp32 "
      + String(format: "(%.0f to %.0f)", gigaflops[slowest], gigaflops[fastest])
  }

  func warning(hosts: [String]) -> String? {
    guard gigaflops[slowest] < 0.6 * median else { return nil }
    let speed = String(format: "%.0f of the median's %.0f GFLOP/s", gigaflops[slowest], median)
    return """
      warning: rank \(slowest) on \(hosts[slowest]) reaches \(speed), and every step waits for it.
               Look there for other processes, a shared core, a lowered clock, an older processor.
      """
  }
}

/// Bandwidth of summing a buffer over all ranks; the same on every rank.
struct ReductionSpeed {
  var worldSize: Int
  /// Bytes of the buffer divided by the seconds of the slowest rank, in GB/s; best of a few.
  var speeds: [(megabytes: Int, gigabytesPerSecond: Double)] = []

  private static let rounds = 6
  /// Slow networks get fewer rounds.
  private static let secondsPerSize = 1.5

  /// A collective call. Also checks that the sums are right.
  init(_ communicator: Communicator, megabytes: [Int], beforeEach: (Int) -> Void) throws {
    worldSize = communicator.worldSize
    guard worldSize > 1 else { return }
    let buffer = AlignedBuffer<Float>(count: (megabytes.max() ?? 0) << 20 / MemoryLayout<Float>.stride)
    for size in megabytes {
      beforeEach(size)
      let values = UnsafeMutableBufferPointer(start: buffer.pointer, count: size << 20 / MemoryLayout<Float>.stride)
      var (best, total, round) = (Double.infinity, 0.0, 0)
      repeat {
        values.update(repeating: 1)
        try communicator.barrier()
        let began = ProcessInfo.processInfo.systemUptime
        try communicator.allReduce(sum: values)
        var seconds = [ProcessInfo.processInfo.systemUptime - began]
        try Self.requireSum(values, communicator, megabytes: size)
        try communicator.agree(max: &seconds)
        best = min(best, seconds[0])
        total += seconds[0]
        round += 1
      } while round < Self.rounds && total < Self.secondsPerSize
      speeds.append((size, Double(values.count * MemoryLayout<Float>.stride) / max(best, 1e-9) / 1e9))
    }
  }

  /// Every rank gave ones.
  private static func requireSum(
    _ values: UnsafeMutableBufferPointer<Float>, _ communicator: Communicator, megabytes: Int
  ) throws {
    let expected = Float(communicator.worldSize)
    try communicator.together {
      if let index = values.firstIndex(where: { $0 != expected }) {
        throw WrongSum(
          description: "an all-reduce of \(megabytes) MB gave \(values[index]) at value \(index), expected \(expected)")
      }
    }
  }

  private struct WrongSum: Error, CustomStringConvertible {
    var description: String
  }

  func summary(nodes: Int) -> String {
    guard worldSize > 1 else { return "not measured: one rank has nothing to sum" }
    let place = nodes == 1 ? "inside one host" : "between \(nodes) hosts"
    return speeds.map { "\($0.megabytes) MB at \(SelfCheck.number($0.gigabytesPerSecond)) GB/s" }
      .joined(separator: ", ") + ", " + place
  }
}
