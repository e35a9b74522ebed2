import Glibc

/// A regular file opened for reading at any offset, by any thread; closed when the last reference goes.
package final class ReadableFile: Sendable {
  package let path: String
  /// Size in bytes when the file was opened.
  package let size: Int
  private let descriptor: Int32

  /// - Throws: `FileError` when the file cannot be opened or is not a regular file.
  package init(path: String) throws(FileError) {
    // Non-blocking, so that a named pipe in a model folder is an error and not a wait.
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else { throw FileError("open", path, code: errno) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else {
      let code = errno
      close(descriptor)
      throw FileError("inspect", path, code: code)
    }
    guard status.st_mode & S_IFMT == S_IFREG else {
      close(descriptor)
      if status.st_mode & S_IFMT == S_IFDIR { throw FileError("read", path, code: EISDIR) }
      throw FileError("read", path, reason: "it is a pipe, a socket or a device; expected a regular file")
    }
    self.path = path
    self.size = Int(status.st_size)
    self.descriptor = descriptor
  }

  deinit { close(descriptor) }

  /// Fills `bytes` from `offset` on.
  /// - Throws: `FileError`, with code 0 when the file ends before `bytes` is full.
  package func read(at offset: Int, into bytes: UnsafeMutableRawBufferPointer) throws(FileError) {
    var done = 0
    while done < bytes.count {
      // Blocks, because one call transfers less than 2 GiB.
      let length = min(bytes.count - done, 4 << 20)
      let count = pread(descriptor, bytes.baseAddress! + done, length, off_t(offset + done))
      if count < 0 {
        if errno == EINTR { continue }
        throw FileError("read", path, code: errno)
      }
      if count == 0 { throw FileError("read", path, code: 0) }
      done += count
    }
  }

  /// - Precondition: `count` was checked against `size`, so that a hostile length cannot ask for more memory than the
  ///   file has bytes.
  package func bytes(at offset: Int, count: Int) throws(FileError) -> [UInt8] {
    precondition(offset >= 0 && count >= 0 && count <= size)
    if count == 0 { return [] }
    var failure: FileError?
    let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
      do throws(FileError) {
        try read(at: offset, into: UnsafeMutableRawBufferPointer(buffer))
        initialized = count
      } catch {
        failure = error
      }
    }
    if let failure { throw failure }
    return bytes
  }

  package func contents() throws(FileError) -> [UInt8] { try bytes(at: 0, count: size) }

  /// The whole file at `path`, or nil when there is none.
  /// - Parameter limit: bytes; a longer file is an error, before memory is taken for it.
  /// - Throws: `FileError`.
  package static func contents(ifPresent path: String, limit: Int) throws(FileError) -> [UInt8]? {
    let file: ReadableFile
    do throws(FileError) { file = try ReadableFile(path: path) } catch {
      if error.code == ENOENT { return nil }
      throw error
    }
    return try file.contents(limit: limit)
  }

  /// As `contents(ifPresent:limit:)`, for a file that must be there.
  package static func contents(_ path: String, limit: Int) throws(FileError) -> [UInt8] {
    try ReadableFile(path: path).contents(limit: limit)
  }

  package func contents(limit: Int) throws(FileError) -> [UInt8] {
    guard size <= limit else {
      throw FileError("read", path, reason: "it has \(size) bytes; at most \(limit) are accepted for such a file")
    }
    return try contents()
  }
}
