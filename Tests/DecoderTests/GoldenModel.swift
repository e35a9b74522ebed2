import Decoder
import Foundation
import JSON
import Kernels
import ModelFiles
import ORPO
import Packing
import Tensors

/// A small model with what PyTorch computed for it (see Golden/generate.py).
struct GoldenModel {
  let name: String
  let configuration: DecoderConfiguration
  let weights: SafetensorsFolder
  let golden: SafetensorsFile
  let pairs: [TokenizedPair]
  let objective: ORPOObjective
  let loss: Double

  static let names = [
    "mha-tied", "gqa-bias", "rope-linear", "rope-dynamic", "rope-llama3", "rope-yarn", "rope-yarn-mscale",
    "mistral-window",
    "mistral-odd-sizes",
  ]

  init(_ name: String) throws {
    let tests = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    try self.init(name: name, folder: tests.appendingPathComponent("Golden/\(name)"))
  }

  /// - Parameter folder: a Hugging Face folder with pairs.json and golden.safetensors beside the model.
  init(name: String, folder: URL) throws {
    self.name = name
    func json(_ file: String) throws -> JSONValue {
      try JSONValue(parsing: [UInt8](Data(contentsOf: folder.appendingPathComponent(file))))
    }
    configuration = try DecoderConfiguration(huggingFace: json("config.json"))
    weights = try SafetensorsFolder(directory: folder.path)
    golden = try SafetensorsFile(path: folder.appendingPathComponent("golden.safetensors").path)
    let description = try json("pairs.json")
    func ids(_ value: JSONValue?) -> [Int32] { value?.array?.compactMap { $0.integer.map(Int32.init) } ?? [] }
    pairs = (description["pairs"]?.array ?? []).map {
      TokenizedPair(
        chosen: ids($0["chosen"]), rejected: ids($0["rejected"]),
        chosenPromptLength: $0["chosen_prompt_length"]?.integer ?? 0,
        rejectedPromptLength: $0["rejected_prompt_length"]?.integer ?? 0)
    }
    objective = ORPOObjective(
      alpha: description["alpha"]?.double ?? .nan, temperature: description["temperature"]?.double ?? .nan,
      nllTokens: .all)
    loss = description["loss"]?.double ?? .nan
  }

  func tensor(_ name: String) throws -> [Float] {
    var values = [Float](repeating: 0, count: golden.info(name)?.count ?? 0)
    try values.withUnsafeMutableBufferPointer { try golden.read(name, into: $0) }
    return values
  }

  /// Loss, log-probabilities and gradients of `pairs`, computed in the given micro-batches.
  func compute(
    threads: Int = 1, microBatches: [[Int]], logitsBudget: Int = 256 << 20, precision: ProductPrecision = .float32
  ) throws -> Computed {
    let pool = ThreadPool(threads: threads)
    defer { pool.stop() }
    let decoder = try Decoder(configuration, pool: pool, precision: precision)
    try decoder.load(from: weights)
    decoder.parametersChanged()
    let batches = microBatches.map { PackedPairs($0.map { pairs[$0] }) }
    decoder.reserve(
      .init(
        rows: batches.map(\.rowCount).max() ?? 0, sequence: batches.map(\.longestSequence).max() ?? 0, training: true,
        logitsBudget: logitsBudget))
    var computed = Computed(layout: decoder.layout, gradients: [Float](repeating: 0, count: decoder.layout.count))
    for (indices, batch) in zip(microBatches, batches) {
      let coefficients = indices.map {
        ORPOObjective.PairCoefficients(
          nllTokenWeight: 1 / Double(pairs.count * objective.nllTokenCount(of: pairs[$0])),
          oddsWeight: 1 / Double(pairs.count))
      }
      var logps = [Float](repeating: 0, count: batch.predictionCount)
      var weights = logps
      logps.withUnsafeMutableBufferPointer { decoder.forward(batch, logps: $0) }
      let metrics = logps.withUnsafeBufferPointer { logps in
        weights.withUnsafeMutableBufferPointer {
          objective.evaluate(logProbs: logps, pairs: batch, coefficients: coefficients, weights: $0)
        }
      }
      computed.loss += metrics.loss
      for (index, pair) in zip(indices, batch.pairs) {
        computed.chosen[index] = Array(logps[pair.sharedPredictions] + logps[pair.chosenPredictions])
        computed.rejected[index] = Array(logps[pair.sharedPredictions] + logps[pair.rejectedPredictions])
      }
      var ends: [Int] = []
      computed.gradients.withUnsafeMutableBufferPointer { gradients in
        weights.withUnsafeBufferPointer {
          decoder.backward(batch, weights: $0, into: gradients.baseAddress!) { ends.append($0) }
        }
      }
      computed.readyEnds.append(ends)
    }
    return computed
  }
}

struct Computed {
  var layout: ParameterLayout
  var gradients: [Float]
  var loss = 0.0
  var chosen: [Int: [Float]] = [:]
  var rejected: [Int: [Float]] = [:]
  var readyEnds: [[Int]] = []
}

/// |a - b| / |b| over all values: 0 means equal.
func relativeDistance(_ a: some Sequence<Float>, _ b: [Float]) -> Double {
  var difference = 0.0
  var size = 0.0
  for (a, b) in zip(a, b) {
    difference += Double(a - b) * Double(a - b)
    size += Double(b) * Double(b)
  }
  return (difference / max(size, 1e-30)).squareRoot()
}
