import ModelFiles
import Testing

@Suite struct SafetensorsTests {
  @Test func readsWhatThePythonLibraryWrites() throws {
    let file = try SafetensorsFile(path: golden + "/mixed.safetensors")
    let expected = try SafetensorsFile(path: golden + "/mixed-f32.safetensors")
    #expect(file.tensors.count == expected.tensors.count + 3)
    #expect(
      Dictionary(uniqueKeysWithValues: file.metadata.map { ($0.key, $0.value) }) == [
        "format": "pt", "note": "two\nlines",
      ])
    for info in expected.tensors {
      #expect(file.info(info.name)?.shape == info.shape)
      // Which NaN a NaN becomes is left to each library.
      let (found, wanted) = (try file.values(info.name), try expected.values(info.name))
      #expect(bits(found.filter { !$0.isNaN }) == bits(wanted.filter { !$0.isNaN }), "\(info.name)")
      #expect(found.map(\.isNaN) == wanted.map(\.isNaN), "\(info.name)")
    }
    #expect(file.info("f16")?.dtype == .f16)
    #expect(file.info("bf16")?.dtype == .bf16)
    #expect(file.info("scalar")?.shape == [])
    #expect(file.info("empty")?.shape == [0, 4])
  }

  @Test func namesAreComparedByBytes() throws {
    let file = try SafetensorsFile(path: golden + "/mixed.safetensors")
    #expect(try file.values("grüße.e\u{301}") == [1])
    #expect(try file.values("grüße.\u{e9}") == [2])
  }

  @Test func refusesWhatItCannotRead() throws {
    let file = try SafetensorsFile(path: golden + "/mixed.safetensors")
    #expect(throws: TensorReadError.unsupportedDType(path: file.path, tensor: "positions", dtype: .i64)) {
      try file.values("positions")
    }
    #expect(throws: TensorReadError.noSuchTensor(path: file.path, tensor: "absent")) { try file.values("absent") }
    var room = [Float](repeating: 0, count: 14)
    #expect(throws: TensorReadError.wrongCount(path: file.path, tensor: "f32", expected: 15, found: 14)) {
      try room.withUnsafeMutableBufferPointer { try file.read("f32", into: $0) }
    }
  }

  @Test func readsAFolderWithIndex() throws {
    let folder = try SafetensorsFolder(directory: golden + "/sharded")
    let expected = try SafetensorsFile(path: golden + "/sharded-f32.safetensors")
    #expect(folder.tensors.map(\.name) == expected.tensors.map(\.name))
    for info in expected.tensors { #expect(try folder.values(info.name) == expected.values(info.name)) }
  }

  struct Bad: Sendable, CustomTestStringConvertible {
    var header: String
    var dataBytes: Int
    var defect: SafetensorsError.Defect
    var testDescription: String { header }

    init(_ header: String, _ defect: SafetensorsError.Defect) { self.init(header, 8, defect) }

    init(_ header: String, _ dataBytes: Int, _ defect: SafetensorsError.Defect) {
      self.header = header
      self.dataBytes = dataBytes
      self.defect = defect
    }
  }

  static let bad: [Bad] = [
    Bad("[]", .headerNotObject(found: "a list")),
    Bad(#"{"__metadata__":[]}"#, .metadataNotStrings(key: nil, found: "a list")),
    Bad(#"{"__metadata__":{"a":1}}"#, .metadataNotStrings(key: "a", found: "a number")),
    Bad(#"{"a":1}"#, .entryNotObject(tensor: "a", found: "a number")),
    Bad(#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1}}"#, .unknownField(tensor: "a", field: "x")),
    Bad(
      #"{"a":{"shape":[2],"data_offsets":[0,8]}}"#,
      .invalidField(tensor: "a", field: "dtype", expected: "a string", found: "nothing")),
    Bad(#"{"a":{"dtype":"F33","shape":[2],"data_offsets":[0,8]}}"#, .unknownDType(tensor: "a", dtype: "F33")),
    Bad(#"{"a":{"dtype":"Q8_0","shape":[32],"data_offsets":[0,34]}}"#, 34, .unknownDType(tensor: "a", dtype: "Q8_0")),
    Bad(
      #"{"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}"#,
      .invalidField(tensor: "a", field: "shape", expected: "a list of integers >= 0", found: "[-2]")),
    Bad(
      #"{"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}}"#,
      .invalidField(tensor: "a", field: "shape", expected: "a list of integers >= 0", found: "[2.0]")),
    Bad(
      #"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8,16]}}"#,
      .invalidField(tensor: "a", field: "data_offsets", expected: "a list of two integers >= 0", found: "[0, 8, 16]")),
    Bad(
      #"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#, .offsetsReversed(tensor: "a", begin: 8, end: 0)),
    Bad(
      #"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}}"#,
      .sizeOverflow(tensor: "a", shape: [4_294_967_296, 4_294_967_296])),
    Bad(
      #"{"a":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,8]}}"#,
      .sizeOverflow(tensor: "a", shape: [4_611_686_018_427_387_904])),
    Bad(
      #"{"a":{"dtype":"F4","shape":[3],"data_offsets":[0,2]}}"#, 2, .misalignedSize(tensor: "a", dtype: .f4, count: 3)),
    Bad(#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#, .wrongSize(tensor: "a", expected: 12, found: 8)),
    Bad(
      #"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#,
      12, .overlap(tensor: "b", begin: 4, expected: 8)),
    Bad(
      #"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}"#,
      12, .hole(tensor: "b", begin: 8, expected: 4)),
    Bad(#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 7, .dataMissing(expected: 8, found: 7)),
    Bad(#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 9, .dataUnused(expected: 8, found: 9)),
  ]

  @Test(arguments: bad) func namesTheDefect(_ bad: Bad) throws {
    try withTemporaryFolder { folder in
      let path = folder + "/bad.safetensors"
      try write(safetensors(bad.header, dataBytes: bad.dataBytes), to: path)
      let error = #expect(throws: SafetensorsError.self) { try SafetensorsFile(path: path) }
      #expect(error == SafetensorsError(path, bad.defect))
      #expect(error?.description.hasPrefix(path) == true)
    }
  }

  @Test func checksTheFrame() throws {
    try withTemporaryFolder { folder in
      let path = folder + "/bad.safetensors"
      func error(_ bytes: [UInt8]) throws -> SafetensorsError.Defect? {
        try write(bytes, to: path)
        return #expect(throws: SafetensorsError.self) { try SafetensorsFile(path: path) }?.defect
      }
      #expect(try error([1, 2, 3]) == .tooShort(size: 3))
      #expect(
        try error(littleEndian(UInt64.max) + [123]) == .headerTooLarge(length: .max, limit: SafetensorsFile.headerLimit)
      )
      #expect(try error(littleEndian(UInt64(100)) + Array("{}".utf8)) == .headerBeyondEnd(length: 100, size: 10))
      let notJSON = try error(safetensors("{\"a\":", dataBytes: 0))
      #expect({ if case .headerNotJSON = notJSON { true } else { false } }(), "\(String(describing: notJSON))")
    }
    #expect(throws: FileError("open", golden + "/absent", code: 2)) { try SafetensorsFile(path: golden + "/absent") }
    #expect(throws: FileError("read", golden, code: 21)) { try SafetensorsFile(path: golden) }
  }

  @Test func everyTruncationIsAnError() throws {
    let whole = try contents(golden + "/mixed.safetensors")
    try withTemporaryFolder { folder in
      let path = folder + "/cut.safetensors"
      for length in 0..<whole.count {
        try write(Array(whole.prefix(length)), to: path)
        #expect(throws: SafetensorsError.self, "\(length)") { try SafetensorsFile(path: path) }
      }
    }
  }

  @Test func everyDamagedHeaderByteIsSurvived() throws {
    let whole = try contents(golden + "/mixed.safetensors")
    let headerEnd = 8 + Int(whole[0]) + Int(whole[1]) << 8
    var refused = 0
    try withTemporaryFolder { folder in
      let path = folder + "/damaged.safetensors"
      for position in 0..<headerEnd {
        for byte in [0, 0xFF, whole[position] ^ 1, UInt8(ascii: "9")] where byte != whole[position] {
          var damaged = whole
          damaged[position] = byte
          try write(damaged, to: path)
          do {
            let file = try SafetensorsFile(path: path)
            for info in file.tensors where info.dtype.isReadable { _ = try file.values(info.name) }
          } catch {
            #expect(error is SafetensorsError)
            refused += 1
          }
        }
      }
    }
    #expect(refused > headerEnd)
  }

  @Test(arguments: [
    (#"{"weight_map":{"a":"../one.safetensors"}}"#, "shardOutsideFolder"),
    (#"{"weight_map":{"a":"/etc/passwd"}}"#, "shardOutsideFolder"),
    (#"{"weight_map":{"a":".."}}"#, "shardOutsideFolder"),
    (#"{"weight_map":{"a":""}}"#, "shardOutsideFolder"),
    (#"{"weight_map":{"a":"x\u0000y"}}"#, "shardOutsideFolder"),
    (#"{"weight_map":{"a":"absent.safetensors"}}"#, "shardMissing"),
    (#"{"weight_map":{"a":"one.safetensors","c":"one.safetensors"}}"#, "tensorMissing"),
    (#"{"weight_map":{"a":"one.safetensors","c":"two.safetensors"}}"#, "tensorTwice"),
    (#"{"weight_map":{"a":1}}"#, "indexInvalid"),
    (#"{"weight_map":[]}"#, "indexInvalid"),
    (#"{}"#, "indexInvalid"),
    (#"{"#, "indexNotJSON"),
  ])
  func checksTheIndex(_ index: String, _ defect: String) throws {
    try withTemporaryFolder { folder in
      let one =
        #"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}"#
      let two =
        #"{"c":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}"#
      try write(safetensors(one, dataBytes: 12), to: folder + "/one.safetensors")
      try write(safetensors(two, dataBytes: 12), to: folder + "/two.safetensors")
      try write(Array(index.utf8), to: folder + "/model.safetensors.index.json")
      let error = #expect(throws: SafetensorsError.self) { try SafetensorsFolder(directory: folder) }
      #expect(error.map { "\($0.defect)".hasPrefix(defect) } == true, "\(String(describing: error))")
    }
  }

  @Test func aFolderWithoutModelSaysWhatItFound() throws {
    try withTemporaryFolder { folder in
      #expect(throws: SafetensorsError(folder, .noModel(found: nil))) { try SafetensorsFolder(directory: folder) }
      try write([], to: folder + "/pytorch_model.bin")
      #expect(throws: SafetensorsError(folder, .noModel(found: "pytorch_model.bin"))) {
        try SafetensorsFolder(directory: folder)
      }
    }
  }
}
