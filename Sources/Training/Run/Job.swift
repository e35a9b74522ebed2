package import Collectives
package import Decoder
import JSON
package import Kernels
import ModelFiles
import Packing
package import Preferences
import Tensors
package import Tokenization

/// What every command that runs on ranks has: the communicator, this rank's threads, and on rank 0 the model and the
/// chat helper.
package final class Job {
  package let communicator: Communicator
  package let pool: ThreadPool
  package let isRoot: Bool
  /// What this rank is doing, for `Heartbeat`.
  package let progress = RankProgress { WritableFile.bytesWritten }

  /// - Parameter threads: of this rank; nil shares a host's cores among its ranks.
  package init(_ communicator: Communicator, threads: Int?) throws {
    self.communicator = communicator
    isRoot = communicator.isRoot
    let cores = try communicator.coresOfThisRank()
    pool = ThreadPool(threads: threads ?? cores.count, cores: cores.own)
  }

  /// Ends this rank's threads.
  package func stop() { pool.stop() }

  /// One line on standard error, from rank 0.
  package func note(_ text: String) {
    if isRoot { StandardError.write(text + "\n") }
  }

  /// Warns on rank 0 when ranks have more threads than cores: products then wait for each other.
  package func warnAboutThreads() throws {
    let report = communicator.hostReport
    let isCrowded = pool.threadCount > report.coresVisible
    let lines = try communicator.allGather(
      isCrowded
        ? "rank \(communicator.rank) on \(report.host): \(pool.threadCount) threads, bound to core \(report.binding)"
        : "")
    for line in lines where !line.isEmpty {
      note("warning: \(line); set threads_per_rank, or bind with mpirun --map-by ppr:N:node:PE=\(pool.threadCount)")
    }
  }

  /// Opens the model on rank 0 and tells all ranks its configuration.
  package func openModel(_ path: String) throws -> (source: ModelSource?, configuration: DecoderConfiguration) {
    var source: ModelSource?
    let bytes = try communicator.fromRoot {
      let opened = try ModelSource(path: path)
      source = opened
      return Array(opened.configurationJSON.serialized().utf8)
    }
    return (source, try DecoderConfiguration(huggingFace: JSONValue(parsing: bytes)))
  }

  /// The precision of products that `choice` means on these processors, the same on all ranks.
  package func precision(_ choice: TrainingConfiguration.BFloat16Products) throws -> ProductPrecision {
    if choice == .off { return .float32 }
    let lacking = try communicator.allGather(
      ProductPrecision.hasBFloat16 ? "" : "\(communicator.hostName) (\(Matmul.instructionSet))"
    ).filter { !$0.isEmpty }
    guard let first = lacking.first else { return .bfloat16 }
    guard choice == .auto else { throw NoBFloat16(host: first) }
    note("note: \(first) does not multiply bf16 by itself (AVX512_BF16 or AMX): products are in fp32")
    return .float32
  }

  /// A decoder whose parameters rank 0 reads and all ranks then hold.
  package func makeDecoder(
    _ configuration: DecoderConfiguration, from source: ModelSource?, precision: ProductPrecision
  ) throws -> Decoder {
    let decoder = try Decoder(configuration, pool: pool, precision: precision)
    _ = try communicator.together { if let source { try decoder.load(from: source.tensors) } }
    try communicator.broadcast(UnsafeMutableRawBufferPointer(decoder.parameters))
    decoder.parametersChanged()
    return decoder
  }

  /// Data read and tokenized by rank 0, held by all.
  package func loadData(
    _ configuration: TrainingConfiguration, source: ModelSource?, chat: ChatRenderer?, needsTraining: Bool = true
  ) throws -> RunData {
    var loaded: RunData?
    let bytes = try communicator.fromRoot {
      guard let source else { return [] }
      let data = try RunData.load(
        configuration, tokenizer: source.tokenizer,
        chat: chat.flatMap { $0.rendering(for: source.tokenizer) }, threads: pool.threadCount,
        needsTraining: needsTraining)
      loaded = data
      return data.bytes
    }
    return loaded ?? RunData(bytes: bytes)
  }
}

extension DecoderConfiguration {
  /// Work of a pair, for dealing pairs out evenly.
  package func pairCost(parameters: Int) -> PairCost {
    // The embedding is looked up, not multiplied, unless it is the head as well.
    let looked = tieWordEmbeddings ? 0 : vocabSize * hiddenSize
    return PairCost(
      matrixParameters: parameters - looked, layers: numHiddenLayers, queryHeads: numAttentionHeads, headDim: headDim)
  }
}

/// `bf16: true` where it cannot be had; every rank finds out together.
struct NoBFloat16: RaisedOnEveryRank, CustomStringConvertible {
  var host: String

  var description: String {
    "bf16: \(host) does not multiply bf16 by itself (AVX512_BF16 or AMX is needed); set bf16=auto to go on in fp32, or bf16=false"
  }
}
