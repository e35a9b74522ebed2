import Collectives
import DataParallel
import Tensors

/// How fast gradients are summed and given back to all ranks, on the way that training takes (`RankMesh`): shared memory
/// inside a node, messages between nodes. The same on every rank.
struct GradientSumSpeed {
  static let bytes = 256 << 20
  /// Seconds of the slowest rank; the median of a few. 0 with one rank.
  var seconds = 0.0
  /// The way, in words.
  var way: String

  /// A collective call of about a second, with nothing computed beside it.
  init(_ communicator: Communicator) throws {
    let mesh = try RankMesh(communicator)
    way = mesh.description
    guard communicator.worldSize > 1 else { return }
    let arena = AlignedBuffer<Float>(count: Self.bytes / MemoryLayout<Float>.stride)
    arena.values.update(repeating: 1e-6)
    let reducer = GradientReducer(mesh: mesh, gradients: arena.values, result: .everything)
    var rounds: [Double] = []
    while rounds.count < 4 {
      try communicator.barrier()
      var seconds = [try Stopwatch.seconds { try reducer.finish() }]
      try communicator.agree(max: &seconds)
      rounds.append(seconds[0])
    }
    // The first round takes the memory.
    seconds = rounds.dropFirst().sorted()[1]
  }

  var gigabytesPerSecond: Double { Double(Self.bytes) / max(seconds, 1e-9) / 1e9 }
}
