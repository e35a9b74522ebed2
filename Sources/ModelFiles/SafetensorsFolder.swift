import Glibc
import JSON

/// The model of a Hugging Face folder: `model.safetensors`, or the shards that `model.safetensors.index.json` names.
///
/// Where both exist the single file counts, as in transformers. Tensors that a shard holds beyond the index are listed
/// too.
package struct SafetensorsFolder: TensorSource {
  package static let singleFile = "model.safetensors"
  package static let indexFile = "model.safetensors.index.json"

  package let tensors: [TensorInfo]
  private let shards: [SafetensorsFile]
  /// For each tensor, the position of its shard.
  private let shardOf: [Int]
  private let index: NameIndex
  private let directory: String

  /// - Throws: `FileError`; `SafetensorsError` naming the first defect of the index or of a shard.
  package init(directory: String) throws {
    self.directory = directory
    let single = directory + "/" + Self.singleFile
    if access(single, F_OK) == 0 {
      shards = [try SafetensorsFile(path: single)]
      tensors = shards[0].tensors
      shardOf = Array(repeating: 0, count: tensors.count)
      var index = NameIndex()
      for (position, info) in tensors.enumerated() { _ = index.insert(info.name, at: position) }
      self.index = index
      return
    }
    let indexPath = directory + "/" + Self.indexFile
    guard access(indexPath, F_OK) == 0 else {
      let pickles = ["pytorch_model.bin", "pytorch_model.bin.index.json"]
      throw SafetensorsError(directory, .noModel(found: pickles.first { access(directory + "/" + $0, F_OK) == 0 }))
    }
    let map = try Self.weightMap(path: indexPath)
    var files: [String] = []
    var shards: [SafetensorsFile] = []
    var wanted = NameIndex()
    var shardNames = NameIndex()
    for (tensor, file) in map {
      if let position = shardNames[file] {
        _ = wanted.insert(tensor, at: position)
        continue
      }
      guard Self.isPlainName(file) else {
        throw SafetensorsError(indexPath, .shardOutsideFolder(tensor: tensor, file: file))
      }
      let path = directory + "/" + file
      guard access(path, F_OK) == 0 else {
        throw SafetensorsError(indexPath, .shardMissing(tensor: tensor, file: file))
      }
      _ = shardNames.insert(file, at: shards.count)
      _ = wanted.insert(tensor, at: shards.count)
      files.append(file)
      shards.append(try SafetensorsFile(path: path))
    }
    for (tensor, file) in map {
      guard let position = wanted[tensor], shards[position].info(tensor) != nil else {
        throw SafetensorsError(indexPath, .tensorMissing(tensor: tensor, file: file))
      }
    }
    var tensors: [TensorInfo] = []
    var shardOf: [Int] = []
    var index = NameIndex()
    for (position, shard) in shards.enumerated() {
      for info in shard.tensors where wanted[info.name] ?? position == position {
        guard index.insert(info.name, at: tensors.count) else {
          let other = index[info.name].map { files[shardOf[$0]] } ?? ""
          throw SafetensorsError(indexPath, .tensorTwice(tensor: info.name, files: [other, files[position]]))
        }
        tensors.append(info)
        shardOf.append(position)
      }
    }
    self.tensors = tensors
    self.shards = shards
    self.shardOf = shardOf
    self.index = index
  }

  package func info(_ name: String) -> TensorInfo? { index[name].map { tensors[$0] } }

  package func read(_ name: String, into values: UnsafeMutableBufferPointer<Float>) throws {
    guard let position = index[name] else { throw TensorReadError.noSuchTensor(path: directory, tensor: name) }
    try shards[shardOf[position]].read(name, into: values)
  }

  private static func weightMap(path: String) throws -> [(tensor: String, file: String)] {
    let file = try ReadableFile(path: path)
    guard file.size <= SafetensorsFile.headerLimit else {
      throw SafetensorsError(
        path, .indexInvalid(expected: "at most \(SafetensorsFile.headerLimit) bytes", found: "\(file.size)"))
    }
    let json: JSONValue
    do {
      json = try JSONValue(parsing: file.contents())
    } catch let error as JSONError {
      throw SafetensorsError(path, .indexNotJSON(reason: error.description))
    }
    guard let members = json["weight_map"]?.object?.members, !members.isEmpty else {
      let found = json["weight_map"].map { $0.object == nil ? $0.typeName : "an empty object" } ?? "nothing"
      throw SafetensorsError(
        path, .indexInvalid(expected: "an object 'weight_map' of tensor names to files", found: found))
    }
    var map: [(tensor: String, file: String)] = []
    for (tensor, value) in members {
      guard let file = value.string else {
        throw SafetensorsError(
          path, .indexInvalid(expected: "a file name for '\(tensor)' in 'weight_map'", found: value.typeName))
      }
      map.append((tensor, file))
    }
    return map
  }

  /// A name that cannot lead out of its folder. Links are followed: caches of downloaded models are made of them.
  package static func isPlainName(_ name: String) -> Bool {
    !name.isEmpty && name != "." && name != ".." && !name.utf8.contains(UInt8(ascii: "/")) && !name.utf8.contains(0)
  }
}
