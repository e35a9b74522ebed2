import Collectives
import Decoder
import Foundation
import Kernels
import Packing
import Synchronization
import Timeline

/// What a plan is computed from: passes of the model's shape, the optimizer and memory, measured here with as many ranks
/// at once as a host will have.
struct MachineProbe {
  /// With all of a host's ranks at work, and with one alone.
  var together: PassCost
  var alone: PassCost
  /// GB/s that all cores read and write while copying.
  var copyGigabytes: Double
  /// Ranks and threads of each that were at work together.
  var copies: Int
  var threads: Int
  var layers: Int
  var rows: [Int]

  /// Seconds of measuring passes with all ranks; half of it with one alone.
  private static let seconds = 3.0

  /// - Parameters:
  ///   - batches: passes of different sizes, as the run will have them.
  ///   - limits: of the run's memory, for passes as large as the largest of these.
  ///   - copies: ranks to measure together, each with `threads` threads.
  init(
    _ model: DecoderConfiguration, batches: [PackedPairs], limits: Decoder.MemoryLimits, precision: ProductPrecision,
    copies: Int, threads: Int
  ) throws {
    let shape = PassProbe.shape(of: model)
    self.copies = copies
    self.threads = threads
    layers = shape.numHiddenLayers
    rows = batches.map(\.rowCount)
    let places = Self.cores(copies: copies, threads: threads)
    let probes = try (0..<copies).map { index in
      try PassProbe(
        shape, batches: batches, limits: limits, precision: precision, threads: threads,
        cores: places.isEmpty ? [] : places[index])
    }
    defer { for probe in probes { probe.stop() } }
    let all = Self.concurrently(probes) { probe in
      for index in batches.indices { probe.pass(index) }
      let samples = probe.measure(until: Timeline.now() + Int64(Self.seconds * 1e9))
      return (samples, probe.measureOptimizer())
    }
    let single =
      copies == 1
      ? all[0]
      : Self.concurrently([probes[0]]) { probe in
        (probe.measure(until: Timeline.now() + Int64(Self.seconds / 2 * 1e9)), probe.measureOptimizer())
      }[0]
    together = Self.cost(all.map(\.0), update: all.map(\.1), model: model, shape: shape)
    alone = Self.cost([single.0], update: [single.1], model: model, shape: shape)
    let pool = ThreadPool(threads: copies * threads)
    defer { pool.stop() }
    copyGigabytes = MemorySpeed.measure(pool).copy
  }

  /// Cores for each rank, as a launcher binds them; none where there are not enough.
  private static func cores(copies: Int, threads: Int) -> [[Int]] {
    let cores = HostReport.physical(HostReport.boundCores())
    guard cores.count >= copies * threads else { return [] }
    return (0..<copies).map { Array(cores[$0 * threads..<($0 + 1) * threads]) }
  }

  /// Calls `body` for every probe on a thread of its own, which stays on the probe's cores.
  private static func concurrently<Value: Sendable>(
    _ probes: [PassProbe], _ body: @escaping @Sendable (PassProbe) -> Value
  ) -> [Value] {
    let values = Mutex([Value?](repeating: nil, count: probes.count))
    let done = DispatchGroup()
    for (index, probe) in probes.enumerated() {
      done.enter()
      Thread.detachNewThread {
        if !probe.cores.isEmpty { Affinity.stay(on: probe.cores) }
        let value = body(probe)
        values.withLock { $0[index] = value }
        done.leave()
      }
    }
    done.wait()
    return values.withLock { $0.compactMap(\.self) }
  }

  /// - Parameter samples: of each rank, one for each batch; all ranks have the same batches.
  private static func cost(
    _ samples: [[PassProbe.Sample]], update: [Double], model: DecoderConfiguration, shape: DecoderConfiguration
  ) -> PassCost {
    let ranks = Double(samples.count)
    let vocabulary = Double(model.vocabSize) / Double(shape.vocabSize)
    func mean(_ batch: Int, _ value: (PassProbe.Sample) -> Double) -> Double {
      samples.reduce(0) { $0 + value($1[batch]) } / ranks
    }
    let sizes = samples[0]
    func curve(_ value: (PassProbe.Sample) -> Double) -> PassCost.Curve {
      PassCost.Curve(sizes.indices.map { .init(rows: sizes[$0].rows, seconds: mean($0, value)) })
    }
    let attended = sizes.reduce(0) { $0 + $1.attendedRows }
    let attention = sizes.indices.reduce(0) { $0 + mean($1, \.attention) }
    return PassCost(
      layers: model.numHiddenLayers, layer: curve(\.layer), perAttendedRow: attention / attended,
      // What is outside the layers is the head, up to a percent.
      outside: curve(\.outside).scaled(by: vocabulary),
      backwardShare: mean(0, \.backward) / (mean(0, \.layer) + mean(0, \.attention)),
      perUpdatedParameter: update.reduce(0, +) / ranks)
  }
}
