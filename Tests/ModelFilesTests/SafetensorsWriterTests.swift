import Foundation
import JSON
import ModelFiles
import Testing

@Suite struct SafetensorsWriterTests {
  private static let shapes: [(name: String, shape: [Int])] = [
    ("model.embed.weight", [5, 3]), ("model.norm.weight", [3]), ("scalar", []), ("empty", [0, 2]),
  ]

  /// Calls `body` with tensors of known values; value `i` of all is `i / 4 - 2`, exact in every dtype.
  private func withTensors<Result>(_ body: ([NamedTensor]) throws -> Result) throws -> Result {
    let values = (0..<19).map { Float($0) / 4 - 2 }
    return try values.withUnsafeBufferPointer { values in
      var begin = 0
      return try body(
        Self.shapes.map { name, shape in
          let count = shape.reduce(1, *)
          defer { begin += count }
          return NamedTensor(
            name: name, shape: shape, values: UnsafeBufferPointer(rebasing: values[begin..<(begin + count)]))
        })
    }
  }

  @Test(arguments: [TensorDType.f32, .bf16, .f16]) func whatIsWrittenReadsBack(_ dtype: TensorDType) throws {
    try withTemporaryFolder { folder in
      try withTensors { tensors in
        let path = folder + "/model.safetensors"
        let written = try SafetensorsWriter.write(tensors, to: path, dtype: dtype)
        let bytes = try contents(path)
        #expect(written.name == "model.safetensors")
        #expect(written.size == bytes.count)
        #expect((8 + Int(bytes[0]) + Int(bytes[1]) << 8) % 8 == 0)
        let file = try SafetensorsFile(path: path)
        #expect(file.metadata.map(\.key) == ["format"])
        #expect(file.metadata.map(\.value) == ["pt"])
        #expect(file.tensors == tensors.map { TensorInfo(name: $0.name, dtype: dtype, shape: $0.shape) })
        for tensor in tensors { #expect(try file.values(tensor.name) == Array(tensor.values)) }
      }
    }
  }

  @Test func halfPrecisionRoundsToNearestEven() throws {
    try withTemporaryFolder { folder in
      let values: [Float] = [1 + 0x1p-8, 1 + 3 * 0x1p-8, 1e30, -.infinity, .nan]
      try values.withUnsafeBufferPointer { values in
        let tensor = NamedTensor(name: "a", shape: [5], values: values)
        _ = try SafetensorsWriter.write([tensor], to: folder + "/bf16", dtype: .bf16)
        _ = try SafetensorsWriter.write([tensor], to: folder + "/f16", dtype: .f16)
      }
      let bf16 = try SafetensorsFile(path: folder + "/bf16").values("a")
      #expect(bf16[0] == 1 && bf16[1] == 1 + 0x1p-6 && bf16[3] == -.infinity && bf16[4].isNaN)
      let f16 = try SafetensorsFile(path: folder + "/f16").values("a")
      #expect(f16[0] == 1 + 0x1p-8 && f16[2] == .infinity)
    }
  }

  @Test func shardsAreLaidOutAsHuggingFaceDoes() throws {
    try withTemporaryFolder { folder in
      try withTensors { tensors in
        let shards = SafetensorsWriter.shards(tensors, maxShardBytes: 16)
        #expect(shards.map(\.name) == ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"])
        #expect(
          shards.map { $0.tensors.map(\.name) } == [["model.embed.weight"], ["model.norm.weight", "scalar", "empty"]])
        let written = try SafetensorsWriter.write(shards, directory: folder)
        #expect(written.map(\.name) == shards.map(\.name) + ["model.safetensors.index.json"])
        let index = try JSONValue(parsing: contents(folder + "/model.safetensors.index.json"))
        #expect(index["metadata"]?["total_size"]?.integer == 19 * 4)
        #expect(index["weight_map"]?["scalar"]?.string == shards[1].name)
        let read = try SafetensorsFolder(directory: folder)
        for tensor in tensors { #expect(try read.values(tensor.name) == Array(tensor.values)) }
      }
    }
  }

  @Test func failuresNamePathAndCause() throws {
    try withTensors { tensors in
      #expect(throws: FileError("write", "/dev/full", code: ENOSPC)) {
        try SafetensorsWriter.write(tensors, to: "/dev/full", mode: .replacing)
      }
      try withTemporaryFolder { folder in
        try write([1], to: folder + "/file")
        #expect(throws: FileError("create", folder + "/file", code: EEXIST)) {
          try SafetensorsWriter.write(tensors, to: folder + "/file")
        }
        let error = #expect(throws: FileError.self) {
          try SafetensorsWriter.write(tensors, to: folder + "/file/model.safetensors")
        }
        #expect(error?.description == "cannot create \(folder)/file/model.safetensors: Not a directory (errno 20)")
      }
    }
  }

  @Test func theChecksumDoesNotDependOnHowItIsFed() {
    let bytes = (0..<1000).map { UInt8(truncatingIfNeeded: $0 &* 37 &+ $0 >> 3) }
    func hash(_ bytes: [UInt8], pieces: Int) -> UInt64 {
      var hash = StripeHash()
      var rest = bytes[...]
      while !rest.isEmpty {
        Array(rest.prefix(pieces)).withUnsafeBytes { hash.update($0) }
        rest = rest.dropFirst(pieces)
      }
      return hash.finished()
    }
    let whole = hash(bytes, pieces: 1000)
    for pieces in [1, 7, 63, 64, 65, 128, 999] { #expect(hash(bytes, pieces: pieces) == whole) }
    var seen: Set<UInt64> = [whole]
    for bit in 0..<(bytes.count * 8) {
      var changed = bytes
      changed[bit / 8] ^= 1 << UInt8(bit % 8)
      seen.insert(hash(changed, pieces: 1000))
    }
    for length in 0..<1000 { seen.insert(hash(Array(bytes.prefix(length)), pieces: 1000)) }
    #expect(seen.count == 1 + 8000 + 1000)
    // Recorded manifests must stay valid.
    #expect(hash(Array("checkpoint".utf8), pieces: 64) == 17_379_237_119_263_010_964)
  }
}
