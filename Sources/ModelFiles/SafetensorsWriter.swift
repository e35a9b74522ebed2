import JSON
import Tensors

/// A tensor to be written: fp32 values in memory that must stay valid while they are written.
package struct NamedTensor {
  package var name: String
  /// Outermost dimension first.
  package var shape: [Int]
  package var values: UnsafeBufferPointer<Float>

  /// - Precondition: `values` has as many values as `shape` says.
  package init(name: String, shape: [Int], values: UnsafeBufferPointer<Float>) {
    precondition(
      checkedCount(shape) == values.count, "tensor '\(name)': shape \(shape) does not hold \(values.count) values")
    self.name = name
    self.shape = shape
    self.values = values
  }
}

/// Tensors to be written that are not in memory all at once: names and shapes first, then their values in order.
package struct StreamedTensors {
  package var tensors: [(name: String, shape: [Int])]
  /// Calls its argument with the values of all tensors, one after the other, in pieces of any size.
  package var produce: (_ write: (UnsafeBufferPointer<Float>) throws -> Void) throws -> Void

  package init(
    _ tensors: [(name: String, shape: [Int])],
    produce: @escaping (_ write: (UnsafeBufferPointer<Float>) throws -> Void) throws -> Void
  ) {
    self.tensors = tensors
    self.produce = produce
  }
}

/// Writes safetensors files, single or sharded as Hugging Face lays them out.
package enum SafetensorsWriter {
  /// One file of a model: its name in the folder and its tensors.
  package struct Shard {
    package var name: String
    package var tensors: [NamedTensor]
  }

  /// Writes one file, tensors in the given order, and waits until it is on the disk. Data begins at a multiple of 8
  /// bytes.
  /// - Parameter dtype: F32, or BF16 or F16, rounded to nearest even (beyond F16's range: infinity).
  /// - Precondition: no name occurs twice.
  /// - Throws: `FileError` with path and cause; what was written so far is left for the caller to remove.
  package static func write(
    _ tensors: [NamedTensor], to path: String, dtype: TensorDType = .f32, mode: WritableFile.Mode = .new
  ) throws(FileError) -> WrittenFile {
    precondition(dtype == .f32 || dtype == .bf16 || dtype == .f16, "tensors cannot be written as \(dtype.rawValue)")
    var file = try WritableFile(path: path, mode: mode)
    try file.write(header(tensors.map { ($0.name, $0.shape) }, dtype: dtype))
    if dtype == .f32 {
      for tensor in tensors { try file.write(UnsafeRawBufferPointer(tensor.values)) }
      return try file.finish()
    }
    let scratch = AlignedBuffer<UInt16>(count: 1 << 19)
    for tensor in tensors {
      var done = 0
      while done < tensor.values.count {
        guard let input = tensor.values.baseAddress else { break }
        let count = min(scratch.count, tensor.values.count - done)
        if dtype == .bf16 {
          HalfPrecision.encodeBFloat16(input + done, count: count, into: scratch.pointer)
        } else {
          HalfPrecision.encodeFloat16(input + done, count: count, into: scratch.pointer)
        }
        try file.write(UnsafeRawBufferPointer(start: scratch.pointer, count: count * 2))
        done += count
      }
    }
    return try file.finish()
  }

  /// Writes one file of F32 tensors as their values come.
  /// - Precondition: no name occurs twice, and as many values come as the shapes say.
  /// - Throws: `FileError` with path and cause, or what `produce` throws.
  package static func write(_ tensors: StreamedTensors, to path: String) throws -> WrittenFile {
    var file = try WritableFile(path: path)
    try file.write(header(tensors.tensors, dtype: .f32))
    var left = tensors.tensors.reduce(0) { $0 + $1.shape.reduce(1, *) }
    try tensors.produce { values in
      left -= values.count
      try file.write(UnsafeRawBufferPointer(values))
    }
    precondition(left == 0, "\(path): \(left) values did not come")
    return try file.finish()
  }

  /// Deals the tensors out to files of at most `maxShardBytes`, in order; a larger tensor gets a file of its own. One
  /// file is called `model.safetensors`, several `model-00001-of-00002.safetensors` and so on.
  package static func shards(_ tensors: [NamedTensor], dtype: TensorDType = .f32, maxShardBytes: Int = 5_000_000_000)
    -> [Shard]
  {
    var groups: [[NamedTensor]] = [[]]
    var size = 0
    for tensor in tensors {
      let bytes = byteCount(tensor, dtype)
      if size + bytes > maxShardBytes, !groups[groups.count - 1].isEmpty {
        groups.append([])
        size = 0
      }
      groups[groups.count - 1].append(tensor)
      size += bytes
    }
    if groups.count == 1 { return [Shard(name: SafetensorsFolder.singleFile, tensors: groups[0])] }
    return groups.enumerated().map { position, tensors in
      Shard(name: "model-\(fiveDigits(position + 1))-of-\(fiveDigits(groups.count)).safetensors", tensors: tensors)
    }
  }

  /// The contents of `model.safetensors.index.json`: total size and the file of each tensor, sorted by name.
  package static func index(_ shards: [Shard], dtype: TensorDType = .f32) -> [UInt8] {
    let size = shards.reduce(0) { $0 + $1.tensors.reduce(0) { $0 + byteCount($1, dtype) } }
    var map = shards.flatMap { shard in shard.tensors.map { (key: $0.name, value: JSONValue.string(shard.name)) } }
    map.sort { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) }
    let json: JSONValue = ["metadata": ["total_size": .integer(size)], "weight_map": .object(JSONObject(map))]
    return Array((json.serialized(indent: 2) + "\n").utf8)
  }

  /// Writes `shards` and, when there are several, the index, into an existing folder where none of them exists yet.
  package static func write(_ shards: [Shard], directory: String, dtype: TensorDType = .f32) throws(FileError)
    -> [WrittenFile]
  {
    var written: [WrittenFile] = []
    for shard in shards { written.append(try write(shard.tensors, to: directory + "/" + shard.name, dtype: dtype)) }
    if shards.count > 1 {
      var file = try WritableFile(path: directory + "/" + SafetensorsFolder.indexFile)
      try file.write(index(shards, dtype: dtype))
      written.append(try file.finish())
    }
    return written
  }

  private static func header(_ tensors: [(name: String, shape: [Int])], dtype: TensorDType) -> [UInt8] {
    var members: [(key: String, value: JSONValue)] = [("__metadata__", ["format": "pt"])]
    var names = NameIndex()
    var end = 0
    for tensor in tensors {
      let isNew = names.insert(tensor.name, at: members.count)
      precondition(isNew && tensor.name != "__metadata__", "tensor name '\(tensor.name)' is taken")
      let begin = end
      end += tensor.shape.reduce(1, *) * dtype.block.bytes
      let entry: JSONValue = [
        "dtype": .string(dtype.rawValue),
        "shape": .array(tensor.shape.map { .integer($0) }),
        "data_offsets": [.integer(begin), .integer(end)],
      ]
      members.append((tensor.name, entry))
    }
    var json = Array(JSONValue.object(JSONObject(members)).serialized().utf8)
    json += Array(repeating: UInt8(ascii: " "), count: (8 - json.count % 8) % 8)
    return (0..<8).map { UInt8(truncatingIfNeeded: json.count >> ($0 * 8)) } + json
  }

  private static func byteCount(_ tensor: NamedTensor, _ dtype: TensorDType) -> Int {
    tensor.values.count * dtype.block.bytes
  }

  private static func fiveDigits(_ number: Int) -> String {
    let digits = String(number)
    return String(repeating: "0", count: max(5 - digits.count, 0)) + digits
  }
}
