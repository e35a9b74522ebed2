import ModelFiles
import Testing

@Suite struct GGUFTests {
  @Test func readsMetadataOfEveryType() throws {
    let file = try GGUFFile(path: golden + "/blocks.gguf")
    #expect(file.version == 3)
    let expected: [(String, GGUFValue)] = [
      ("general.architecture", .string(Array("llama".utf8))),
      ("test.uint8", .uint8(200)), ("test.int8", .int8(-100)),
      ("test.uint16", .uint16(60000)), ("test.int16", .int16(-30000)),
      ("test.uint32", .uint32(4_000_000_000)), ("test.int32", .int32(-2_000_000_000)),
      ("test.uint64", .uint64(.max)), ("test.int64", .int64(.min)),
      ("test.float32", .float32(0.1)), ("test.float64", .float64(0.1)), ("test.bool", .bool(true)),
      ("test.string", .string(Array("grüße 🙂".utf8))),
      ("test.strings", .array(.string(["a", "", "Ġb\n", "e\u{301}", "\u{e9}"].map { Array($0.utf8) }))),
      ("test.integers", .array(.int32([1, -2, 3]))), ("test.floats", .array(.float32([0.5, -1.25]))),
      ("test.bools", .array(.bool([true, false, true]))), ("test.bytes", .array(.uint8([1, 2, 255]))),
    ]
    #expect(file.metadata == expected.map { GGUFKeyValue(key: $0.0, value: $0.1) })
    #expect(file["test.absent"] == nil)
    #expect(file["test.uint64"]?.integer == nil)
    #expect(file["test.uint32"]?.integer == 4_000_000_000)
    #expect(file["test.integers"]?.integers == [1, -2, 3])
    #expect(file["test.int8"]?.double == -100)
    #expect(file["test.string"]?.string == "grüße 🙂")
  }

  @Test(arguments: [
    "F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "line",
    "cube",
  ])
  func decodesAsTheReference(_ name: String) throws {
    let file = try GGUFFile(path: golden + "/blocks.gguf")
    let expected = try SafetensorsFile(path: golden + "/blocks.safetensors")
    let info = try #require(file.info(name))
    if let dtype = TensorDType(rawValue: name) { #expect(info.dtype == dtype) }
    #expect(info.shape == expected.info(name)?.shape)
    #expect(bits(try file.values(name)) == bits(try expected.values(name)))
  }

  @Test func undoesTheRotaryPermutation() throws {
    // Two heads of 6 rows of 2 values; the file's order holds the pairs (j, j + 3) as neighbours.
    let (heads, headDim, columns) = (2, 6, 2)
    var values: [Float] = []
    for head in 0..<heads {
      for row in [0, 3, 1, 4, 2, 5] {
        for column in 0..<columns { values.append(Float(head * 100 + row * 10 + column)) }
      }
    }
    values.withUnsafeMutableBufferPointer {
      GGUFFile.undoRotaryPermutation($0, heads: heads, headDim: headDim, columns: columns)
    }
    var expected: [Float] = []
    for head in 0..<heads {
      for row in 0..<headDim {
        for column in 0..<columns { expected.append(Float(head * 100 + row * 10 + column)) }
      }
    }
    #expect(values == expected)
  }

  @Test func everyHalfPrecisionPatternIsDecodedLikeTheScalar() throws {
    try withTemporaryFolder { folder in
      let header =
        #"{"a":{"dtype":"F16","shape":[65536],"data_offsets":[0,131072]},"b":{"dtype":"BF16","shape":[65536],"#
        + #""data_offsets":[131072,262144]}}"#
      let patterns = (0..<65536).flatMap { littleEndian(UInt16($0)) }
      try write(safetensors(header, dataBytes: 0) + patterns + patterns, to: folder + "/all.safetensors")
      let file = try SafetensorsFile(path: folder + "/all.safetensors")
      let (f16, bf16) = (try file.values("a"), try file.values("b"))
      for pattern in 0..<65536 {
        let expected = Float(Float16(bitPattern: UInt16(pattern)))
        if expected.isNaN {
          #expect(f16[pattern].isNaN)
        } else if f16[pattern].bitPattern != expected.bitPattern {
          Issue.record("F16 \(pattern): \(f16[pattern]) instead of \(expected)")
        }
        if bf16[pattern].bitPattern != UInt32(pattern) << 16 { Issue.record("BF16 \(pattern)") }
      }
    }
  }
}
