/// The head of a GGUF file: version, metadata and the list of tensors.
struct GGUFHead {
  private static let nestingLimit = 4

  let version: Int
  private(set) var metadata: [GGUFKeyValue] = []
  private(set) var keys = NameIndex()
  private(set) var tensors: [TensorInfo] = []
  private(set) var index = NameIndex()
  /// Relative to the start of the data, as the file states them.
  private var offsets: [UInt64] = []

  init(_ cursor: inout GGUFCursor) throws {
    let magic = try cursor.values(UInt8.self, count: min(4, cursor.remaining), "the magic number")
    guard magic == Array("GGUF".utf8) else { throw GGUFError(cursor.path, .wrongMagic(found: magic)) }
    let version: UInt32 = try cursor.next("the version")
    guard version & 0xFFFF != 0 else { throw GGUFError(cursor.path, .bigEndian) }
    guard version == 2 || version == 3 else { throw GGUFError(cursor.path, .unsupportedVersion(version)) }
    self.version = Int(version)
    // The smallest tensor entry has 24 bytes, the smallest key and value 13.
    let tensorCount = try cursor.count(minimumBytes: 24, "the number of tensors")
    let keyCount = try cursor.count(minimumBytes: 13, "the number of metadata keys")
    for position in 0..<keyCount {
      let pair = try Self.keyValue(&cursor)
      guard keys.insert(pair.key, at: position) else { throw GGUFError(cursor.path, .keyTwice(pair.key)) }
      metadata.append(pair)
    }
    if let parts = keys["split.count"].flatMap({ metadata[$0].value.integer }), parts > 1 {
      throw GGUFError(cursor.path, .splitFile(parts: parts))
    }
    for position in 0..<tensorCount {
      let (info, offset) = try Self.tensor(&cursor)
      guard index.insert(info.name, at: position) else { throw GGUFError(cursor.path, .tensorTwice(info.name)) }
      tensors.append(info)
      offsets.append(offset)
    }
  }

  /// Where each tensor's bytes begin in the file, checked to be aligned, inside the file and apart from each other.
  func dataOffsets(path: String, size: Int, headEnd: Int) throws(GGUFError) -> [Int] {
    let alignment = try self.alignment(path: path)
    // Below 2^62: the head's end is inside the file and the alignment is 32 bits.
    let dataStart = (headEnd + alignment - 1) / alignment * alignment
    let available = max(size - dataStart, 0)
    var ranges: [(begin: Int, end: Int, tensor: Int)] = []
    for (position, info) in tensors.enumerated() {
      let offset = offsets[position]
      guard offset % UInt64(alignment) == 0 else {
        throw GGUFError(path, .misaligned(tensor: info.name, offset: offset, alignment: alignment))
      }
      let bytes = info.dtype.byteCount(of: info.count) ?? Int.max
      guard offset <= available, bytes <= available - Int(offset) else {
        throw GGUFError(path, .beyondEnd(tensor: info.name, offset: offset, bytes: bytes, available: available))
      }
      ranges.append((Int(offset), Int(offset) + bytes, position))
    }
    let ordered = ranges.filter { $0.begin < $0.end }.sorted { $0.begin < $1.begin }
    for (previous, next) in zip(ordered, ordered.dropFirst()) where next.begin < previous.end {
      throw GGUFError(
        path,
        .overlap(
          tensor: tensors[next.tensor].name, offset: next.begin, previous: tensors[previous.tensor].name,
          end: previous.end))
    }
    return ranges.map { dataStart + $0.begin }
  }

  private func alignment(path: String) throws(GGUFError) -> Int {
    guard let position = keys["general.alignment"] else { return 32 }
    let value = metadata[position].value
    guard case .uint32(let alignment) = value, alignment.nonzeroBitCount == 1 else {
      throw GGUFError(path, .invalidAlignment(found: value.integer.map(String.init) ?? value.typeName))
    }
    return Int(alignment)
  }

  private static func tensor(_ cursor: inout GGUFCursor) throws -> (TensorInfo, UInt64) {
    let start = cursor.position
    guard let name = String(validating: try cursor.string("a tensor name"), as: UTF8.self) else {
      throw GGUFError(cursor.path, .nameNotUTF8(at: start))
    }
    let dimensionCount: UInt32 = try cursor.next("the number of dimensions of tensor '\(name)'")
    guard dimensionCount <= 4 else {
      throw GGUFError(cursor.path, .tooManyDimensions(tensor: name, count: dimensionCount))
    }
    let dimensions = try cursor.values(UInt64.self, count: Int(dimensionCount), "the dimensions of tensor '\(name)'")
    let type: UInt32 = try cursor.next("the type of tensor '\(name)'")
    let offset: UInt64 = try cursor.next("the offset of tensor '\(name)'")
    let shape = dimensions.reversed().compactMap(Int.init(exactly:))
    guard shape.count == dimensions.count, let count = checkedCount(shape), count <= Int.max / 8 else {
      throw GGUFError(cursor.path, .sizeOverflow(tensor: name, dimensions: dimensions))
    }
    guard let dtype = TensorDType(ggufType: type) else {
      throw GGUFError(cursor.path, .unknownTensorType(tensor: name, type: type))
    }
    let rowLength = shape.last ?? 1
    guard rowLength % dtype.block.values == 0, dtype.byteCount(of: count) != nil else {
      throw GGUFError(cursor.path, .partialBlock(tensor: name, dtype: dtype, rowLength: rowLength))
    }
    return (TensorInfo(name: name, dtype: dtype, shape: shape), offset)
  }

  private static func keyValue(_ cursor: inout GGUFCursor) throws -> GGUFKeyValue {
    let start = cursor.position
    guard let key = String(validating: try cursor.string("a metadata key"), as: UTF8.self) else {
      throw GGUFError(cursor.path, .keyNotUTF8(at: start))
    }
    let what = "the value of metadata key '\(key)'"
    let type: UInt32 = try cursor.next("the type of metadata key '\(key)'")
    let value: GGUFValue
    switch type {
    case 0: value = .uint8(try cursor.next(what))
    case 1: value = .int8(try cursor.next(what))
    case 2: value = .uint16(try cursor.next(what))
    case 3: value = .int16(try cursor.next(what))
    case 4: value = .uint32(try cursor.next(what))
    case 5: value = .int32(try cursor.next(what))
    case 6: value = .float32(Float(bitPattern: try cursor.next(what)))
    case 7: value = .bool(try bool(cursor.next(what), key, cursor.path))
    case 8: value = .string(try cursor.string(what))
    case 9: value = .array(try array(&cursor, key: key, depth: 1))
    case 10: value = .uint64(try cursor.next(what))
    case 11: value = .int64(try cursor.next(what))
    case 12: value = .float64(Double(bitPattern: try cursor.next(what)))
    default: throw GGUFError(cursor.path, .unknownValueType(key: key, type: type))
    }
    return GGUFKeyValue(key: key, value: value)
  }

  private static func array(_ cursor: inout GGUFCursor, key: String, depth: Int) throws -> GGUFArray {
    guard depth <= nestingLimit else {
      throw GGUFError(cursor.path, .nestedTooDeep(key: key, limit: nestingLimit))
    }
    let what = "the array of metadata key '\(key)'"
    let type: UInt32 = try cursor.next(what)
    func values<Value: BitwiseCopyable>(_ type: Value.Type) throws -> [Value] {
      let count = try cursor.count(minimumBytes: MemoryLayout<Value>.size, what)
      return try cursor.values(type, count: count, what)
    }
    switch type {
    case 0: return .uint8(try values(UInt8.self))
    case 1: return .int8(try values(Int8.self))
    case 2: return .uint16(try values(UInt16.self))
    case 3: return .int16(try values(Int16.self))
    case 4: return .uint32(try values(UInt32.self))
    case 5: return .int32(try values(Int32.self))
    case 6: return .float32(try values(Float.self))
    case 7: return .bool(try values(UInt8.self).map { try bool($0, key, cursor.path) })
    case 8:
      let count = try cursor.count(minimumBytes: 8, what)
      return .string(try (0..<count).map { _ in try cursor.string(what) })
    case 9:
      let count = try cursor.count(minimumBytes: 12, what)
      return .array(try (0..<count).map { _ in try array(&cursor, key: key, depth: depth + 1) })
    case 10: return .uint64(try values(UInt64.self))
    case 11: return .int64(try values(Int64.self))
    case 12: return .float64(try values(Double.self))
    default: throw GGUFError(cursor.path, .unknownValueType(key: key, type: type))
    }
  }

  private static func bool(_ byte: UInt8, _ key: String, _ path: String) throws(GGUFError) -> Bool {
    guard byte <= 1 else { throw GGUFError(path, .invalidBool(key: key, byte: byte)) }
    return byte == 1
  }
}
