import Collectives
import Decoder
import Kernels
import Tensors

/// What the three products of one linear layer reach on every rank while all ranks multiply at once, called as the
/// decoder calls them.
struct LinearSpeed: Sendable, Equatable {
  /// The product behind a layer's output, the gradient of its input, and the gradient of its weight.
  enum Form: Int, CaseIterable, Sendable {
    case forward, inputGradient, weightGradient
  }

  var shape: LinearShape
  var rows: Int
  var precision: ProductPrecision
  /// GFLOP/s of each rank: `[rank][form]`.
  var gigaflops: [[Double]]

  /// A rank's speed over all three forms together: operations by time.
  func combined(rank: Int) -> Double { Self.harmonicMean(gigaflops[rank]) }

  /// GFLOP/s of all ranks together, over the three forms.
  var together: Double { gigaflops.indices.reduce(0) { $0 + combined(rank: $1) } }

  /// Median of the ranks.
  func median(_ form: Form) -> Double {
    gigaflops.map { $0[form.rawValue] }.sorted()[gigaflops.count / 2]
  }

  /// The speed of equal amounts of work done at these speeds one after the other.
  static func harmonicMean(_ speeds: [Double]) -> Double {
    Double(speeds.count) / speeds.reduce(0) { $0 + 1 / $1 }
  }
}

extension LinearSpeed {
  /// A collective call of about half a second.
  ///
  /// - Parameter byColumns: whether the forward product is divided by columns, as the head's is.
  init(
    _ shape: LinearShape, rows: Int, precision: ProductPrecision, byColumns: Bool = false, job: Job
  ) throws {
    self.shape = shape
    self.rows = rows
    self.precision = precision
    let memory = Memory(shape, rows: rows, precision: precision, pool: job.pool)
    let operations = shape.operationsPerRow * Double(rows)
    var speeds: [Double] = []
    for form in Form.allCases {
      try job.communicator.barrier()
      speeds.append(operations / Stopwatch.median { memory.multiply(form, byColumns: byColumns) } / 1e9)
    }
    gigaflops = try job.communicator.allGather(speeds)
  }

  /// Factors and result of the three products.
  private struct Memory: ~Copyable {
    let shape: LinearShape
    let rows: Int
    let pool: ThreadPool
    let x, weight, y: FactorMemory
    let result: AlignedBuffer<Float>

    init(_ shape: LinearShape, rows: Int, precision: ProductPrecision, pool: ThreadPool) {
      self.shape = shape
      self.rows = rows
      self.pool = pool
      x = FactorMemory(count: rows * shape.inputs, precision: precision, pool: pool)
      weight = FactorMemory(count: shape.parameters, precision: precision, pool: pool)
      y = FactorMemory(count: rows * shape.outputs, precision: precision, pool: pool)
      result = AlignedBuffer(count: max(rows * max(shape.inputs, shape.outputs), shape.parameters))
    }

    func multiply(_ form: Form, byColumns: Bool) {
      let (inputs, outputs) = (shape.inputs, shape.outputs)
      let x = x.matrix(at: 0, columns: inputs), y = y.matrix(at: 0, columns: outputs)
      let weight = weight.matrix(at: 0, columns: inputs)
      let to = result.pointer
      switch form {
      case .forward where byColumns:
        Matmul.linearByColumns(pool, rows: rows, inputs: inputs, outputs: outputs, x, weight: weight, to)
      case .forward: Matmul.linear(pool, rows: rows, inputs: inputs, outputs: outputs, x, weight: weight, to)
      case .inputGradient:
        Matmul.inputGradient(pool, rows: rows, inputs: inputs, outputs: outputs, y, weight: weight, to)
      case .weightGradient:
        Matmul.weightGradient(pool, rows: rows, inputs: inputs, outputs: outputs, y, x, to)
      }
    }
  }
}

extension Communicator {
  /// Some numbers of every rank on every rank, in rank order.
  func allGather(_ values: [Double]) throws(MPIError) -> [[Double]] {
    let bytes = values.withUnsafeBytes { Array($0) }
    return try allGather(bytes).map { bytes in
      bytes.withUnsafeBytes { bytes in
        (0..<bytes.count / 8).map { bytes.loadUnaligned(fromByteOffset: 8 * $0, as: Double.self) }
      }
    }
  }
}
