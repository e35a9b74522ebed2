import JSON

/// The checked contents of a safetensors header.
struct SafetensorsHeader {
  struct Entry {
    var info: TensorInfo
    /// Bytes, counted from the end of the header.
    var range: Range<Int>
  }

  var metadata: [(key: String, value: String)] = []
  /// In the order of their data.
  var entries: [Entry] = []
  var index = NameIndex()
  /// Bytes of data that the entries cover without overlap or hole.
  var dataSize = 0

  init(_ json: JSONValue, path: String) throws(SafetensorsError) {
    guard let members = json.object?.members else {
      throw SafetensorsError(path, .headerNotObject(found: json.typeName))
    }
    for (key, value) in members {
      if key.utf8.elementsEqual("__metadata__".utf8) {
        metadata = try Self.metadata(value, path: path)
      } else {
        entries.append(try Self.entry(key, value, path: path))
      }
    }
    entries.sort { ($0.range.lowerBound, $0.range.upperBound) < ($1.range.lowerBound, $1.range.upperBound) }
    for (position, entry) in entries.enumerated() {
      let (name, begin) = (entry.info.name, entry.range.lowerBound)
      if begin < dataSize { throw SafetensorsError(path, .overlap(tensor: name, begin: begin, expected: dataSize)) }
      if begin > dataSize { throw SafetensorsError(path, .hole(tensor: name, begin: begin, expected: dataSize)) }
      dataSize = entry.range.upperBound
      _ = index.insert(name, at: position)
    }
  }

  private static func metadata(
    _ json: JSONValue, path: String
  ) throws(SafetensorsError) -> [(key: String, value: String)] {
    guard let members = json.object?.members else {
      throw SafetensorsError(path, .metadataNotStrings(key: nil, found: json.typeName))
    }
    var metadata: [(key: String, value: String)] = []
    for (key, value) in members {
      guard let string = value.string else {
        throw SafetensorsError(path, .metadataNotStrings(key: key, found: value.typeName))
      }
      metadata.append((key, string))
    }
    return metadata
  }

  private static func entry(_ name: String, _ json: JSONValue, path: String) throws(SafetensorsError) -> Entry {
    guard let object = json.object else {
      throw SafetensorsError(path, .entryNotObject(tensor: name, found: json.typeName))
    }
    for (field, _) in object.members where !["dtype", "shape", "data_offsets"].contains(field.possibleName) {
      throw SafetensorsError(path, .unknownField(tensor: name, field: field))
    }
    func fail(_ field: String, _ expected: String) -> SafetensorsError {
      let found = object[field]?.serialized() ?? "nothing"
      return SafetensorsError(
        path, .invalidField(tensor: name, field: field, expected: expected, found: String(found.prefix(100))))
    }
    guard let dtypeName = object["dtype"]?.string else { throw fail("dtype", "a string") }
    guard let dtype = TensorDType(safetensorsName: dtypeName) else {
      throw SafetensorsError(path, .unknownDType(tensor: name, dtype: dtypeName))
    }
    guard let shape = naturals(object["shape"]) else { throw fail("shape", "a list of integers >= 0") }
    guard let offsets = naturals(object["data_offsets"]), offsets.count == 2 else {
      throw fail("data_offsets", "a list of two integers >= 0")
    }
    let (begin, end) = (offsets[0], offsets[1])
    guard begin <= end else { throw SafetensorsError(path, .offsetsReversed(tensor: name, begin: begin, end: end)) }
    guard let count = checkedCount(shape), count <= Int.max / 8 else {
      throw SafetensorsError(path, .sizeOverflow(tensor: name, shape: shape))
    }
    guard let size = dtype.byteCount(of: count) else {
      throw SafetensorsError(path, .misalignedSize(tensor: name, dtype: dtype, count: count))
    }
    guard size == end - begin else {
      throw SafetensorsError(path, .wrongSize(tensor: name, expected: size, found: end - begin))
    }
    return Entry(info: TensorInfo(name: name, dtype: dtype, shape: shape), range: begin..<end)
  }

  private static func naturals(_ json: JSONValue?) -> [Int]? {
    guard let array = json?.array else { return nil }
    var numbers: [Int] = []
    for element in array {
      guard case .integer(let number) = element, number >= 0 else { return nil }
      numbers.append(number)
    }
    return numbers
  }
}

extension TensorDType {
  /// The dtype of this name in a safetensors header; block formats exist in GGUF files only.
  fileprivate init?(safetensorsName name: String) {
    guard let dtype = name.possibleName.flatMap(TensorDType.init(rawValue:)) else { return nil }
    switch dtype {
    case .f32, .f16, .bf16, .f64, .c64, .i64, .u64, .i32, .u32, .i16, .u16, .i8, .u8, .bool, .f8_e5m2, .f8_e4m3,
      .f8_e8m0, .f8_e4m3fnuz, .f8_e5m2fnuz, .f6_e2m3, .f6_e3m2, .f4:
      self = dtype
    default: return nil
    }
  }
}
