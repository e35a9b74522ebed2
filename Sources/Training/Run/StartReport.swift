import Decoder
import Foundation
import Kernels
import Packing

/// What a run is going to do, in the lines shown before its first step.
struct StartReport {
  var configuration: TrainingConfiguration
  var decoder: DecoderConfiguration
  var parameters: Int
  var training: [TokenizedPair]
  var evaluationPairs: Int
  var worldSize: Int
  var hosts: Int
  /// By rank.
  var threads: [Int]
  var stepsPerEpoch: Int
  var totalSteps: Int
  /// Of the rank that holds most.
  var optimizerBytes: Int
  /// Arenas of gradients beyond the first.
  var partialSumBytes: Int
  /// Copies from which checkpoints are written, of the rank that holds most; 0 where none are made.
  var copyBytes: Int
  /// How gradients are summed; `nil` with one rank.
  var communication: String?
  var reservedBytes: Int
  var instructionSet: String
  /// Of products in the precision of this run.
  var gigaflops: Double
  var precision: ProductPrecision

  private static func count(_ value: Int) -> String {
    value < 1_000_000
      ? "\(value)"
      : String(format: value < 1_000_000_000 ? "%.1f M" : "%.2f G", Double(value) / (value < 1_000_000_000 ? 1e6 : 1e9))
  }

  /// `4 threads`, or `2 to 4 threads` where ranks differ.
  static func threads(_ threads: [Int]) -> String {
    let (least, most) = (threads.min() ?? 0, threads.max() ?? 0)
    return "\(least == most ? "" : "\(least) to ")\(most) thread\(most == 1 ? "" : "s")"
  }

  var text: String {
    let rows = training.reduce(0) { $0 + $1.rowCount }
    let unshared = training.reduce(0) { $0 + $1.chosen.count + $1.rejected.count }
    let c = configuration
    let gb = { (bytes: Int) in String(format: "%.2f", Double(bytes) / 1e9) }
    let arena = parameters * 4
    let gradients = arena + partialSumBytes
    let copies = copyBytes > 0 ? " + \(gb(copyBytes)) copies for checkpoints" : ""
    let sums = communication.map { "sums     \($0)\n" } ?? ""
    return """
      orpo-dist \(Version.text)
      model    \(c.modelNameOrPath): \(decoder.family.rawValue), \(Self.count(parameters)) parameters, \
      \(decoder.numHiddenLayers) layers, vocabulary \(decoder.vocabSize)
      data     \(training.count) training pairs, \(evaluationPairs) held out; \(rows) rows for \(unshared) tokens, prefixes shared
      ranks    \(worldSize) on \(hosts) host\(hosts == 1 ? "" : "s"), \(Self.threads(threads)) each; \
      oneDNN \(instructionSet), \(String(format: "%.0f", gigaflops)) GFLOP/s a rank in \(precision.shortName)
      batch    \(c.perDeviceTrainBatchSize) per device x \(c.gradientAccumulationSteps) accumulation x \(worldSize) ranks \
      = \(c.globalBatch(worldSize: worldSize)) pairs a step; \(stepsPerEpoch) steps an epoch, \(totalSteps) steps in all
      memory   \(gb(arena)) parameters + \(gb(gradients)) gradients + \(gb(optimizerBytes)) optimizer + \(gb(reservedBytes)) activations and logits\(copies) \
      = \(gb(arena + gradients + optimizerBytes + reservedBytes + copyBytes)) GB a rank
      \(sums)\
      output   \(c.outputDir)

      """
  }
}

/// The version of this program.
package enum Version {
  package static let text = "0.1.0"
}
