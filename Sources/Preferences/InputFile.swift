internal import CZlib
internal import CZstd

#if canImport(Glibc)
  internal import Glibc
#else
  internal import Musl
#endif

/// The uncompressed bytes of a file, read forward once. Compression is recognised by the first bytes, not by the name.
final class InputFile {
  private enum Compression { case none, gzip, zstd }

  private let path: String
  private let descriptor: Int32
  private var compression = Compression.none
  /// Bytes as they are on disk, `input[position..<available]` not yet consumed.
  private var input = [UInt8](repeating: 0, count: 1 << 16)
  private var position = 0
  private var available = 0
  private var atEnd = false
  private var inflater: UnsafeMutablePointer<z_stream>?
  private var decompressor: OpaquePointer?
  /// Whether a compressed member has begun and not ended: the end of the file is then a defect.
  private var insideMember = false

  init(path: String) throws(PreferenceFileError) {
    self.path = path
    // Non-blocking, so that a named pipe is an error and not a wait.
    descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else { throw .cannotOpen(file: path, reason: Self.message(errno)) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { throw .cannotOpen(file: path, reason: Self.message(errno)) }
    if status.st_mode & S_IFMT == S_IFDIR {
      throw .cannotOpen(file: path, reason: "it is a directory, name the files in it")
    }
    // Data are read more than once: to see their layout, to compare them between ranks, to train.
    guard status.st_mode & S_IFMT == S_IFREG else {
      throw .cannotOpen(file: path, reason: "it is a pipe, a socket or a device; expected a regular file")
    }
    try detectCompression()
  }

  deinit {
    if descriptor >= 0 { close(descriptor) }
    if let inflater {
      inflateEnd(inflater)
      inflater.deinitialize(count: 1)
      inflater.deallocate()
    }
    if let decompressor { ZSTD_freeDStream(decompressor) }
  }

  /// Reads up to `buffer.count` bytes. Returns 0 only at the end.
  func read(into buffer: UnsafeMutableBufferPointer<UInt8>) throws(PreferenceFileError) -> Int {
    switch compression {
    case .none: try readPlain(into: buffer)
    case .gzip: try readGzip(into: buffer)
    case .zstd: try readZstd(into: buffer)
    }
  }

  private static func message(_ code: Int32) -> String { String(cString: strerror(code)) }

  private func refill() throws(PreferenceFileError) {
    guard !atEnd else { return }
    if position > 0 {
      input.replaceSubrange(0..<(available - position), with: input[position..<available])
      available -= position
      position = 0
    }
    while true {
      let free = input.count - available
      let offset = available
      let count = input.withUnsafeMutableBytes { systemRead(descriptor, $0.baseAddress! + offset, free) }
      if count < 0 && errno == EINTR { continue }
      guard count >= 0 else { throw .cannotRead(file: path, reason: Self.message(errno)) }
      available += count
      atEnd = count == 0
      return
    }
  }

  private func detectCompression() throws(PreferenceFileError) {
    while available < 8 && !atEnd { try refill() }
    let head = input[..<available]
    if head.starts(with: [0x1F, 0x8B]) {
      compression = .gzip
      let stream = UnsafeMutablePointer<z_stream>.allocate(capacity: 1)
      stream.initialize(to: z_stream())
      inflater = stream
      // 16 above the largest window: a gzip header is expected.
      guard inflateInit2_(stream, 16 + MAX_WBITS, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK else {
        throw .cannotRead(file: path, reason: "zlib could not be set up")
      }
    } else if head.starts(with: [0x28, 0xB5, 0x2F, 0xFD]) || Self.isSkippableFrame(head) {
      compression = .zstd
      decompressor = ZSTD_createDStream()
      guard decompressor != nil else { throw .cannotRead(file: path, reason: "zstd could not be set up") }
    } else if let (content, advice) = Self.foreignContent(head) {
      throw .unsupportedContent(file: path, content: content, advice: advice)
    }
  }

  private static func isSkippableFrame(_ head: ArraySlice<UInt8>) -> Bool {
    head.count >= 4 && head[0] & 0xF0 == 0x50 && head[1...3].elementsEqual([0x2A, 0x4D, 0x18])
  }

  /// Formats that people hand over by mistake, by their first bytes.
  private static func foreignContent(_ head: ArraySlice<UInt8>) -> (content: String, advice: String)? {
    let known: [([UInt8], String, String)] = [
      (Array("PAR1".utf8), "a Parquet file", "convert it with datasets.load_dataset(\"parquet\", ...).to_json(...)"),
      (Array("ARROW1".utf8), "an Arrow file", "convert it with datasets.Dataset.from_file(...).to_json(...)"),
      ([0xFD, 0x37, 0x7A, 0x58, 0x5A], "xz-compressed", "unpack it, or compress it with gzip or zstd"),
      (Array("BZh".utf8), "bzip2-compressed", "unpack it, or compress it with gzip or zstd"),
      ([0x50, 0x4B, 0x03, 0x04], "a zip archive", "unpack it, or compress the file with gzip or zstd"),
      ([0xFF, 0xFE], "UTF-16 text", "convert it to UTF-8 (iconv -f UTF-16 -t UTF-8)"),
      ([0xFE, 0xFF], "UTF-16 text", "convert it to UTF-8 (iconv -f UTF-16 -t UTF-8)"),
    ]
    return known.first { head.starts(with: $0.0) }.map { ($0.1, $0.2) }
  }

  private func readPlain(into buffer: UnsafeMutableBufferPointer<UInt8>) throws(PreferenceFileError) -> Int {
    if position == available { try refill() }
    let count = min(buffer.count, available - position)
    input.withUnsafeBufferPointer { source in
      _ = buffer.update(fromContentsOf: source[position..<(position + count)])
    }
    position += count
    return count
  }

  private func readGzip(into buffer: UnsafeMutableBufferPointer<UInt8>) throws(PreferenceFileError) -> Int {
    guard let stream = inflater else { return 0 }
    while true {
      if position == available { try refill() }
      if position == available {
        if insideMember { throw .corrupt(file: path, compression: "gzip", reason: "unexpected end of file") }
        return 0
      }
      if !insideMember {
        // Zero padding after the last member is allowed (tape blocks); anything else must be another member.
        guard input[position] == 0x1F else {
          if input[position] == 0 {
            position += 1
            continue
          }
          throw .corrupt(file: path, compression: "gzip", reason: "unexpected bytes after its end")
        }
        inflateReset(stream)
        insideMember = true
      }
      var code: Int32 = Z_OK
      let produced = input.withUnsafeMutableBufferPointer { source in
        stream.pointee.next_in = source.baseAddress! + position
        stream.pointee.avail_in = UInt32(available - position)
        stream.pointee.next_out = buffer.baseAddress
        stream.pointee.avail_out = UInt32(clamping: buffer.count)
        code = inflate(stream, Z_NO_FLUSH)
        position = available - Int(stream.pointee.avail_in)
        return Int(UInt32(clamping: buffer.count) - stream.pointee.avail_out)
      }
      guard code == Z_OK || code == Z_STREAM_END || code == Z_BUF_ERROR else {
        let reason = stream.pointee.msg.map { String(cString: $0) } ?? "code \(code)"
        throw .corrupt(file: path, compression: "gzip", reason: reason)
      }
      if code == Z_STREAM_END { insideMember = false }
      if produced > 0 { return produced }
    }
  }

  private func readZstd(into buffer: UnsafeMutableBufferPointer<UInt8>) throws(PreferenceFileError) -> Int {
    while true {
      if position == available { try refill() }
      // zstd may still hold decoded bytes after the input has ended.
      let flushing = position == available
      if flushing && !insideMember { return 0 }
      var output = ZSTD_outBuffer(dst: buffer.baseAddress, size: buffer.count, pos: 0)
      let start = position
      let (code, consumed) = input.withUnsafeBufferPointer { source in
        var inBuffer = ZSTD_inBuffer(src: source.baseAddress! + start, size: available - start, pos: 0)
        return (ZSTD_decompressStream(decompressor, &output, &inBuffer), inBuffer.pos)
      }
      if ZSTD_isError(code) != 0 {
        throw .corrupt(file: path, compression: "zstd", reason: String(cString: ZSTD_getErrorName(code)))
      }
      position += consumed
      insideMember = code != 0
      if output.pos > 0 { return output.pos }
      if flushing { throw .corrupt(file: path, compression: "zstd", reason: "unexpected end of file") }
    }
  }
}

/// `read(2)`, under a name that the method of the same name does not hide.
private func systemRead(_ descriptor: Int32, _ buffer: UnsafeMutableRawPointer, _ count: Int) -> Int {
  read(descriptor, buffer, count)
}
