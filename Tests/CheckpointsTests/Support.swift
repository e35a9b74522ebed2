import Checkpoints
import Foundation
import ModelFiles

/// Tensors of a small model and its optimizer, with values that differ by `seed`.
final class SmallModel {
  static let shapes: [(name: String, shape: [Int])] = [
    ("model.embed_tokens.weight", [64, 8]), ("model.norm.weight", [8]), ("lm_head.bias", [5]),
  ]
  private static var count: Int { shapes.reduce(0) { $0 + $1.shape.reduce(1, *) } }

  /// Parameters, then both moments.
  private(set) var values: [Float]

  init(seed: Int) {
    values = (0..<(3 * Self.count)).map {
      Float(bitPattern: UInt32(truncatingIfNeeded: $0 &* 2_654_435_761 &+ seed) & 0xBFFF_FFFF)
    }
  }

  init() { values = Array(repeating: 0, count: 3 * Self.count) }

  func withContents<Result>(_ body: (CheckpointContents) throws -> Result) rethrows -> Result {
    try values.withUnsafeBufferPointer { values in
      func tensors(_ prefix: String, _ part: Int) -> [NamedTensor] {
        var begin = part * Self.count
        return Self.shapes.map { name, shape in
          let count = shape.reduce(1, *)
          defer { begin += count }
          return NamedTensor(
            name: prefix + name, shape: shape, values: UnsafeBufferPointer(rebasing: values[begin..<(begin + count)]))
        }
      }
      let contents = CheckpointContents(
        model: tensors("", 0),
        tensorFiles: [("optimizer.safetensors", streamed(tensors("exp_avg.", 1) + tensors("exp_avg_sq.", 2)))],
        files: [("config.json", Array("{}\n".utf8)), ("trainer_state.json", Array("{\"global_step\": 1}".utf8))])
      return try body(contents)
    }
  }

  /// Fills this model from a checkpoint.
  func load(_ checkpoint: Checkpoint) throws {
    try values.withUnsafeMutableBufferPointer { values in
      func destinations(_ prefix: String, _ part: Int) -> [TensorDestination] {
        var begin = part * Self.count
        return Self.shapes.map { name, shape in
          let count = shape.reduce(1, *)
          defer { begin += count }
          return TensorDestination(
            name: prefix + name, shape: shape,
            values: UnsafeMutableBufferPointer(rebasing: values[begin..<(begin + count)]))
        }
      }
      try checkpoint.loadModel(into: destinations("", 0))
      let moments = destinations("exp_avg.", 1) + destinations("exp_avg_sq.", 2)
      let file = try checkpoint.tensors("optimizer.safetensors", expecting: moments.map { ($0.name, $0.shape) })
      for moment in moments {
        // In two parts, as ranks with a share of the values read.
        let half = moment.values.count / 3
        try file.read(moment.name, from: 0, into: UnsafeMutableBufferPointer(rebasing: moment.values[..<half]))
        try file.read(moment.name, from: half, into: UnsafeMutableBufferPointer(rebasing: moment.values[half...]))
      }
    }
  }

  var bits: [UInt32] { values.map(\.bitPattern) }
}

/// The tensors' values in pieces that end where no tensor does.
private func streamed(_ tensors: [NamedTensor]) -> StreamedTensors {
  StreamedTensors(tensors.map { ($0.name, $0.shape) }) { write in
    let values = tensors.flatMap(\.values)
    for start in stride(from: 0, to: values.count, by: 7) {
      try values[start..<min(start + 7, values.count)].withUnsafeBufferPointer { try write($0) }
    }
  }
}

extension CheckpointStore {
  @discardableResult
  func save(step: Int, seed: Int? = nil) throws -> Checkpoint {
    try SmallModel(seed: seed ?? step).withContents { try save(step: step, contents: $0) }
    return try checkpoint(step: step)
  }

  /// All names in the output folder, hidden ones too.
  var names: [String] {
    get throws { try FileManager.default.contentsOfDirectory(atPath: outputDirectory).sorted() }
  }
}

/// Calls `body` with a store on a new output folder, which is removed afterwards.
func withStore<Result>(_ body: (CheckpointStore) throws -> Result) throws -> Result {
  let folder = FileManager.default.temporaryDirectory.appending(path: "orpo-dist-tests-\(UUID().uuidString)").path
  defer { try? FileManager.default.removeItem(atPath: folder) }
  return try body(CheckpointStore(outputDirectory: folder + "/runs/one"))
}

/// Every file below a folder with its contents.
func snapshot(_ directory: String) throws -> [String: Data] {
  var files: [String: Data] = [:]
  for case let name as String in FileManager.default.enumerator(atPath: directory) ?? .init() {
    let path = directory + "/" + name
    var isFolder: ObjCBool = false
    if FileManager.default.fileExists(atPath: path, isDirectory: &isFolder), !isFolder.boolValue {
      files[name] = try Data(contentsOf: URL(filePath: path))
    }
  }
  return files
}
