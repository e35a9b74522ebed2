import Collectives
import DataParallel
import Foundation
import Tensors

/// `mpirun -n N rank-tests speed [MB]`: seconds to sum an arena of gradients over the ranks, one way after the other in
/// turns, for docs/performance-log.md.
func measureReductions(_ arguments: [String]) -> Int32 {
  guard let megabytes = Int(arguments.first ?? "538"), megabytes > 0 else {
    print("rank-tests: speed takes a number of MB, found \(arguments[0])")
    return 2
  }
  do {
    let world = try Communicator.start()
    do {
      try measure(megabytes, world)
      try world.finish()
      return 0
    } catch {
      world.fail(error)
    }
  } catch {
    print("rank-tests: \(error)")
    return 1
  }
}

private func measure(_ megabytes: Int, _ world: Communicator) throws {
  let arena = AlignedBuffer<Float>(count: megabytes * 1_000_000 / 4)
  for index in 0..<arena.count { arena.pointer[index] = Float(index % 101) }
  var ways: [(name: String, run: () throws -> Void)] = [
    (
      "MPI_Allreduce in place, 32 MiB at a time",
      {
        for start in stride(from: 0, to: arena.count, by: 8 << 20) {
          try world.allReduce(
            sum: UnsafeMutableBufferPointer(rebasing: arena.values[start..<min(start + 8 << 20, arena.count)]))
        }
      }
    )
  ]
  func add(_ name: String, _ mesh: RankMesh) {
    for result in [GradientReducer.Result.everything, .ownSlices] {
      let reducer = GradientReducer(mesh: mesh, gradients: arena.values, result: result)
      ways.append((name + (result == .everything ? ", sums everywhere" : ", sums in slices"), reducer.finish))
      guard result == .ownSlices else { continue }
      ways.append((name + ", parameters gathered", { try reducer.gatherParameters(arena.values) }))
    }
  }
  for kilobytes in [256, 1024, 8192] {
    add(
      "window of \(kilobytes) KiB a rank", try RankMesh(world, windowBytes: kilobytes << 10, leastWindowBytes: 64 << 10)
    )
  }
  add("messages", try RankMesh(world, windowBytes: 0))
  add("as nodes of one rank, fp32", try RankMesh(world, ranksPerNode: 1))
  add("as nodes of one rank, bf16", try RankMesh(world, wireDType: .bf16, ranksPerNode: 1))

  var seconds = [[Double]](repeating: [], count: ways.count)
  for _ in 0..<5 {
    for (index, way) in ways.enumerated() {
      try world.barrier()
      let began = ProcessInfo.processInfo.systemUptime
      try way.run()
      var slowest = [ProcessInfo.processInfo.systemUptime - began]
      try world.agree(max: &slowest)
      seconds[index].append(slowest[0])
    }
  }
  guard world.isRoot else { return }
  print("\(megabytes) MB over \(world.worldSize) ranks, median (least to most) of \(seconds[0].count) in turns:")
  for (way, times) in zip(ways, seconds.map { $0.sorted() }) {
    let figures = String(format: "%7.1f ms  (%.1f to %.1f)", times[2] * 1e3, times[0] * 1e3, times[4] * 1e3)
    print("\(figures)  \(way.name)")
  }
}
