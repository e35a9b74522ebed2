import ModelFiles
import Testing

/// A small GGUF file, field by field, each of which a test can spoil.
private struct Parts {
  var magic = Array("GGUF".utf8)
  var version = littleEndian(UInt32(3))
  var tensorCount = littleEndian(UInt64(2))
  var keyCount = littleEndian(UInt64(3))
  var keys: [[UInt8]] = [
    string("general.alignment") + littleEndian(UInt32(4)) + littleEndian(UInt32(32)),
    string("a") + littleEndian(UInt32(7)) + [1],
    string("b") + littleEndian(UInt32(9)) + littleEndian(UInt32(8)) + littleEndian(UInt64(2)) + string("x")
      + string("yz"),
  ]
  var tensors: [[UInt8]] = [
    tensor("t", dimensions: [32, 2], type: 8, offset: 0),
    tensor("u", dimensions: [3], type: 0, offset: 96),
  ]
  var dataBytes = 96 + 12

  static func string(_ text: String) -> [UInt8] { littleEndian(UInt64(text.utf8.count)) + Array(text.utf8) }

  static func tensor(_ name: String, dimensions: [UInt64], type: UInt32, offset: UInt64) -> [UInt8] {
    string(name) + littleEndian(UInt32(dimensions.count)) + dimensions.flatMap { littleEndian($0) } + littleEndian(type)
      + littleEndian(offset)
  }

  var head: [UInt8] { magic + version + tensorCount + keyCount + keys.flatMap { $0 } + tensors.flatMap { $0 } }

  var bytes: [UInt8] {
    let head = self.head
    return head + Array(repeating: 0, count: (32 - head.count % 32) % 32) + Array(repeating: 7, count: dataBytes)
  }
}

@Suite struct HostileGGUFTests {
  private func defect(_ change: (inout Parts) -> Void) throws -> GGUFError.Defect? {
    var parts = Parts()
    change(&parts)
    return try withTemporaryFolder { folder in
      try write(parts.bytes, to: folder + "/bad.gguf")
      return #expect(throws: GGUFError.self) { try GGUFFile(path: folder + "/bad.gguf") }?.defect
    }
  }

  @Test func theUnspoiltFileOpens() throws {
    try withTemporaryFolder { folder in
      try write(Parts().bytes, to: folder + "/good.gguf")
      let file = try GGUFFile(path: folder + "/good.gguf")
      #expect(file.tensors.map(\.shape) == [[2, 32], [3]])
      #expect(file["b"]?.strings == [Array("x".utf8), Array("yz".utf8)])
      #expect(try file.values("u").count == 3)
    }
  }

  @Test func namesTheDefectOfTheFrame() throws {
    #expect(try defect { $0.magic = Array("GGML".utf8) } == .wrongMagic(found: Array("GGML".utf8)))
    #expect(try defect { $0.version = [0, 0, 0, 3] } == .bigEndian)
    #expect(try defect { $0.version = littleEndian(UInt32(1)) } == .unsupportedVersion(1))
    #expect(try defect { $0.version = littleEndian(UInt32(4)) } == .unsupportedVersion(4))
    for count in [UInt64.max, 1 << 62, 1 << 40, 1000] {
      let tensors = try defect { $0.tensorCount = littleEndian(count) }
      #expect({ if case .countTooLarge("the number of tensors", count, _) = tensors { true } else { false } }())
      let keys = try defect { $0.keyCount = littleEndian(count) }
      #expect({ if case .countTooLarge("the number of metadata keys", count, _) = keys { true } else { false } }())
    }
  }

  @Test func namesTheDefectOfAKey() throws {
    #expect(try defect { $0.keys[1] = $0.keys[0] } == .keyTwice("general.alignment"))
    #expect(
      try defect { $0.keys[1] = littleEndian(UInt64(1)) + [0xFF] + littleEndian(UInt32(7)) + [1] }
        == .keyNotUTF8(at: 57))
    #expect(
      try defect { $0.keys[1] = Parts.string("a") + littleEndian(UInt32(13)) + [1] }
        == .unknownValueType(key: "a", type: 13))
    #expect(
      try defect { $0.keys[1] = Parts.string("a") + littleEndian(UInt32(7)) + [2] } == .invalidBool(key: "a", byte: 2))
    let lengths: [UInt64] = [.max, 1 << 63, 1 << 40, 100_000]
    for length in lengths {
      for type in [UInt32(0), 5, 7, 8, 9, 12] {
        let array = try defect {
          $0.keys[2] = Parts.string("b") + littleEndian(UInt32(9)) + littleEndian(type) + littleEndian(length)
        }
        #expect(
          { if case .countTooLarge(_, length, _) = array { true } else { false } }(), "\(String(describing: array))")
      }
      let key = try defect { $0.keys[1] = littleEndian(length) + [1, 2, 3] }
      #expect({ if case .countTooLarge(_, length, _) = key { true } else { false } }())
    }
    let nested = (0..<6).flatMap { _ in littleEndian(UInt32(9)) + littleEndian(UInt64(1)) }
    #expect(
      try defect { $0.keys[2] = Parts.string("b") + littleEndian(UInt32(9)) + nested }
        == .nestedTooDeep(key: "b", limit: 4))
    for value in [0, 3, 48] {
      #expect(
        try defect {
          $0.keys[0] = Parts.string("general.alignment") + littleEndian(UInt32(4)) + littleEndian(UInt32(value))
        }
          == .invalidAlignment(found: "\(value)"))
    }
    #expect(
      try defect { $0.keys[0] = Parts.string("general.alignment") + littleEndian(UInt32(8)) + Parts.string("x") }
        == .invalidAlignment(found: "string"))
    #expect(
      try defect { $0.keys[1] = Parts.string("split.count") + littleEndian(UInt32(2)) + littleEndian(UInt16(3)) }
        == .splitFile(parts: 3))
  }

  @Test func namesTheDefectOfATensor() throws {
    func second(_ dimensions: [UInt64], type: UInt32 = 0, offset: UInt64 = 96) throws -> GGUFError.Defect? {
      try defect { $0.tensors[1] = Parts.tensor("u", dimensions: dimensions, type: type, offset: offset) }
    }
    #expect(try defect { $0.tensors[1] = $0.tensors[0] } == .tensorTwice("t"))
    #expect(try second([1, 1, 1, 1, 1]) == .tooManyDimensions(tensor: "u", count: 5))
    #expect(try second([1 << 32, 1 << 32]) == .sizeOverflow(tensor: "u", dimensions: [1 << 32, 1 << 32]))
    #expect(try second([.max]) == .sizeOverflow(tensor: "u", dimensions: [.max]))
    #expect(try second([1 << 62]) == .sizeOverflow(tensor: "u", dimensions: [1 << 62]))
    #expect(try second([3], type: 99) == .unknownTensorType(tensor: "u", type: 99))
    #expect(try second([16, 2], type: 8) == .partialBlock(tensor: "u", dtype: .q8_0, rowLength: 16))
    #expect(try second([3], offset: 100) == .misaligned(tensor: "u", offset: 100, alignment: 32))
    #expect(try second([3], offset: 128) == .beyondEnd(tensor: "u", offset: 128, bytes: 12, available: 108))
    #expect(
      try second([3], offset: 1 << 63) == .beyondEnd(tensor: "u", offset: 1 << 63, bytes: 12, available: 108))
    #expect(try second([4]) == .beyondEnd(tensor: "u", offset: 96, bytes: 16, available: 108))
    #expect(try second([3], offset: 64) == .overlap(tensor: "u", offset: 64, previous: "t", end: 68))
  }

  @Test func everyTruncationIsAnError() throws {
    let whole = Parts().bytes
    try withTemporaryFolder { folder in
      let path = folder + "/cut.gguf"
      for length in 0..<whole.count {
        try write(Array(whole.prefix(length)), to: path)
        #expect(throws: GGUFError.self, "\(length)") { try GGUFFile(path: path) }
      }
    }
  }

  @Test func everyDamagedByteIsSurvived() throws {
    let whole = Parts().bytes
    var refused = 0
    try withTemporaryFolder { folder in
      let path = folder + "/damaged.gguf"
      for position in 0..<Parts().head.count {
        for byte in [0, 1, 0x7F, 0x80, 0xFF, whole[position] ^ 1] where byte != whole[position] {
          var damaged = whole
          damaged[position] = byte
          try write(damaged, to: path)
          do {
            let file = try GGUFFile(path: path)
            for info in file.tensors where info.dtype.isReadable { _ = try file.values(info.name) }
          } catch {
            #expect(error is GGUFError)
            refused += 1
          }
        }
      }
    }
    #expect(refused > whole.count)
  }
}
