import Collectives
import Foundation
import Kernels

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
