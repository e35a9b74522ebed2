/// Reads the head of a GGUF file front to back, a window at a time. Every length is compared with what is left of the
/// file before memory is taken for it.
struct GGUFCursor {
  /// Largest head (metadata and tensor list) that is read; the largest vocabularies take some 10 MB.
  static let limit = 1 << 30

  private let file: ReadableFile
  private var window: [UInt8] = []
  private var windowStart = 0
  private(set) var position = 0

  var path: String { file.path }

  init(_ file: ReadableFile) { self.file = file }

  /// Bytes between the position and the end of the file.
  var remaining: Int { file.size - position }

  /// The next little-endian integer.
  mutating func next<Value: FixedWidthInteger>(_ what: @autoclosure () -> String) throws -> Value {
    let count = MemoryLayout<Value>.size
    try require(count, what())
    let start = position - windowStart
    position += count
    return window.withUnsafeBytes { Value(littleEndian: $0.loadUnaligned(fromByteOffset: start, as: Value.self)) }
  }

  /// A 64-bit count of elements that take at least `minimumBytes` each.
  mutating func count(minimumBytes: Int, _ what: @autoclosure () -> String) throws -> Int {
    let count: UInt64 = try next(what())
    let room = remaining / minimumBytes
    guard count <= room else { throw GGUFError(path, .countTooLarge(what: what(), count: count, room: room)) }
    return Int(count)
  }

  /// A 64-bit length and that many bytes.
  mutating func string(_ what: @autoclosure () -> String) throws -> [UInt8] {
    let count = try count(minimumBytes: 1, what())
    try require(count, what())
    let start = position - windowStart
    position += count
    return Array(window[start..<(start + count)])
  }

  /// `count` little-endian values of a fixed width.
  mutating func values<Value: BitwiseCopyable>(_ type: Value.Type, count: Int, _ what: @autoclosure () -> String) throws
    -> [Value]
  {
    let (bytes, overflow) = count.multipliedReportingOverflow(by: MemoryLayout<Value>.size)
    try require(overflow ? Int.max : bytes, what())
    let start = position - windowStart
    position += bytes
    return [Value](unsafeUninitializedCapacity: count) { buffer, initialized in
      window.withUnsafeBytes {
        UnsafeMutableRawBufferPointer(buffer).copyMemory(
          from: UnsafeRawBufferPointer(rebasing: $0[start..<(start + bytes)]))
      }
      initialized = count
    }
  }

  /// Makes the next `count` bytes available in the window.
  private mutating func require(_ count: Int, _ what: @autoclosure () -> String) throws {
    guard count <= remaining else { throw GGUFError(path, .cutOff(what: what(), at: position, size: file.size)) }
    guard position + count <= Self.limit else { throw GGUFError(path, .metadataTooLarge(limit: Self.limit)) }
    if position + count <= windowStart + window.count { return }
    window = try file.bytes(at: position, count: min(max(count, 1 << 20), remaining))
    windowStart = position
  }
}
