import Collectives
import Decoder
import Foundation
import JSON
import Kernels

/// The most that this job's machines can do of what training asks of them; the same on every rank.
struct Ceilings {
  /// A layer's products, then the head's, in one precision after the other.
  var products: [LinearSpeed]
  var memory: MemorySpeed
  var reduction: ReductionSpeed
  var gradientSum: GradientSumSpeed
  var nodes: Int

  /// Rows of the head's products, which `LanguageModelHead` computes in blocks.
  private static let headRows = 256

  /// The shapes that are measured when no model is given: those of SmolLM2-135M.
  static let referenceModel = DecoderConfiguration(
    family: .llama, vocabSize: 49152, hiddenSize: 576, intermediateSize: 1536, numHiddenLayers: 30,
    numAttentionHeads: 9, numKeyValueHeads: 3, headDim: 64, rmsNormEps: 1e-5,
    rope: RotaryConfiguration(theta: 100_000), maxPositionEmbeddings: 8192, tieWordEmbeddings: true)

  /// A collective call of some seconds. Products are measured in fp32, and in bf16 where all ranks' processors have it.
  ///
  /// - Parameter rows: of a layer's products, usually `rows_per_micro_batch`.
  init(_ job: Job, model: DecoderConfiguration, rows: Int, reductionSizes: [Int] = Ceilings.reductionSizes) throws {
    let precisions: [ProductPrecision] =
      try job.communicator.allGather(ProductPrecision.hasBFloat16 ? 1 : 0).contains(0)
      ? [.float32] : [.float32, .bfloat16]
    products = []
    for precision in precisions {
      for shape in model.layerProducts {
        products.append(try LinearSpeed(shape, rows: rows, precision: precision, job: job))
      }
      let head = model.headProduct
      products.append(try LinearSpeed(head, rows: Self.headRows, precision: precision, byColumns: true, job: job))
    }
    memory = try MemorySpeed(job)
    reduction = try ReductionSpeed(job.communicator, sizes: reductionSizes)
    gradientSum = try GradientSumSpeed(job.communicator)
    nodes = Set(try job.communicator.allGather(job.communicator.nodeLeader)).count
  }

  static let reductionSizes = [64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20, 64 << 20, 256 << 20]

  /// A layer's products, then the head's, in one precision.
  func products(_ precision: ProductPrecision) -> [LinearSpeed] { products.filter { $0.precision == precision } }

  /// GFLOP/s of all ranks together on the model's own mixture of products: its operations by the time they take at the
  /// measured speeds.
  func modelGigaflops(layers: Int, _ precision: ProductPrecision) -> Double {
    let products = products(precision)
    func weight(_ index: Int) -> Double { Double(index + 1 < products.count ? layers : 1) }
    let ranks = products.first?.gigaflops.indices ?? 0..<0
    return ranks.reduce(0) { total, rank in
      let operations = products.indices.reduce(0) { $0 + weight($1) * products[$1].shape.operationsPerRow }
      let time = products.indices.reduce(0) {
        $0 + weight($1) * products[$1].shape.operationsPerRow / products[$1].combined(rank: rank)
      }
      return total + operations / time
    }
  }
}

// MARK: - Report

extension Ceilings {
  var text: String {
    [productTable, memoryLines, reductionLines].joined(separator: "\n\n") + "\n"
  }

  private var productTable: String {
    let header = ["products", "", "rows x inputs -> outputs", "forward", "dX", "dW", "all ranks"]
    let rows = products.map { product in
      [
        product.precision.shortName, product.shape.name,
        "\(product.rows) x \(product.shape.inputs) -> \(product.shape.outputs)",
        Self.whole(product.median(.forward)), Self.whole(product.median(.inputGradient)),
        Self.whole(product.median(.weightGradient)), Self.whole(product.together),
      ]
    }
    let unit = "GFLOP/s a rank (the median one), all ranks multiplying at once; oneDNN \(Matmul.instructionSet)"
    return TextTable(rows: [header] + rows, rightFrom: 3).text + "\n" + unit
  }

  private var memoryLines: String {
    func line(_ name: String, _ speeds: [Double]) -> [String] {
      [name, SelfCheck.number(speeds.sorted()[speeds.count / 2]), SelfCheck.number(speeds.reduce(0, +))]
    }
    let rows = [["memory", "GB/s a rank", "all ranks"], line("read", memory.read), line("copy", memory.copy)]
    return TextTable(rows: rows, rightFrom: 1).text
  }

  private var reductionLines: String {
    guard !reduction.speeds.isEmpty else { return "all-reduce  \(reduction.summary(nodes: nodes))" }
    let place = nodes == 1 ? "inside one host" : "between \(nodes) hosts"
    let rows = reduction.speeds.map { speed in
      let milliseconds = Double(speed.bytes) / speed.gigabytesPerSecond / 1e6
      return [
        ReductionSpeed.name(speed.bytes), SelfCheck.number(milliseconds), SelfCheck.number(speed.gigabytesPerSecond),
      ]
    }
    let header = ["all-reduce", "ms", "GB/s"]
    return TextTable(rows: [header] + rows, rightFrom: 1).text
      + "\nMPI_Allreduce of \(reduction.worldSize) ranks \(place): bytes of the buffer by the slowest rank's time\n"
      + "gradients as training sums and gathers them, \(ReductionSpeed.name(GradientSumSpeed.bytes)) through \(gradientSum.way): "
      + "\(SelfCheck.number(1000 * gradientSum.seconds)) ms, \(SelfCheck.number(gradientSum.gigabytesPerSecond)) GB/s"
  }

  private static func whole(_ value: Double) -> String { String(format: "%.0f", value) }

  var json: JSONValue {
    let products = self.products.map { product -> JSONValue in
      [
        "name": .string(product.shape.name), "precision": .string(product.precision.shortName),
        "rows": .integer(product.rows),
        "inputs": .integer(product.shape.inputs), "outputs": .integer(product.shape.outputs),
        "gflops_by_rank": .array(
          product.gigaflops.map { speeds in
            [
              "forward": .double(speeds[0]), "input_gradient": .double(speeds[1]),
              "weight_gradient": .double(speeds[2]),
            ]
          }), "gflops_all_ranks": .double(product.together),
      ]
    }
    let reductions = reduction.speeds.map { speed -> JSONValue in
      ["bytes": .integer(speed.bytes), "gb_per_second": .double(speed.gigabytesPerSecond)]
    }
    return [
      "products": .array(products), "instruction_set": .string(Matmul.instructionSet),
      "memory_read_gb_per_second_by_rank": .array(memory.read.map { .double($0) }),
      "memory_copy_gb_per_second_by_rank": .array(memory.copy.map { .double($0) }), "all_reduce": .array(reductions),
      "gradient_sum": reduction.worldSize == 1
        ? .null
        : [
          "bytes": .integer(GradientSumSpeed.bytes), "gb_per_second": .double(gradientSum.gigabytesPerSecond),
          "way": .string(gradientSum.way),
        ],
      "hosts": .integer(nodes),
    ]
  }
}
