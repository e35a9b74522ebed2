import Glibc
import Synchronization

/// What was written to a file.
package struct WrittenFile: Sendable, Equatable {
  /// Without its folder.
  package var name: String
  package var size: Int
  /// `StripeHash` of the contents.
  package var checksum: UInt64

  package init(name: String, size: Int, checksum: UInt64) {
    self.name = name
    self.size = size
    self.checksum = checksum
  }
}

/// A file being written front to back, with its checksum formed on the way. Every failure is an error: short writes are
/// continued, a full disk, a quota or a size limit is reported by `errno`.
package struct WritableFile: ~Copyable {
  package enum Mode: Sendable {
    /// The file must not exist yet; a link put there by somebody else is not followed.
    case new
    /// An existing file is emptied first.
    case replacing
  }

  private static let blockBytes = 1 << 20
  private static let total = Atomic<Int>(0)

  /// By this process, to all its files.
  package static var bytesWritten: Int { total.load(ordering: .relaxed) }

  private let path: String
  private let descriptor: Int32
  private var size = 0
  private var hash = StripeHash()

  /// Permissions follow the user's umask.
  package init(path: String, mode: Mode = .new) throws(FileError) {
    let flags = O_WRONLY | O_CREAT | O_CLOEXEC | (mode == .new ? O_EXCL : O_TRUNC)
    descriptor = open(path, flags, 0o666)
    self.path = path
    guard descriptor >= 0 else { throw FileError("create", path, code: errno) }
  }

  deinit { if descriptor >= 0 { close(descriptor) } }

  package mutating func write(_ bytes: UnsafeRawBufferPointer) throws(FileError) {
    var done = 0
    while done < bytes.count {
      let block = UnsafeRawBufferPointer(rebasing: bytes[done..<min(done + Self.blockBytes, bytes.count)])
      try put(block)
      hash.update(block)
      done += block.count
    }
  }

  package mutating func write(_ bytes: [UInt8]) throws(FileError) {
    var failure: FileError?
    bytes.withUnsafeBytes { bytes in
      do throws(FileError) { try write(bytes) } catch { failure = error }
    }
    if let failure { throw failure }
  }

  /// Waits until the contents are on the disk.
  /// - Parameter name: how the result calls the file; its name without folder when nil.
  package mutating func finish(name: String? = nil) throws(FileError) -> WrittenFile {
    // Devices have nothing to wait for.
    if fsync(descriptor) != 0, errno != EINVAL { throw FileError("write", path, code: errno) }
    let ownName = path.split(separator: "/").last.map(String.init) ?? path
    return WrittenFile(name: name ?? ownName, size: size, checksum: hash.finished())
  }

  private mutating func put(_ block: UnsafeRawBufferPointer) throws(FileError) {
    var done = 0
    while done < block.count {
      let count = Glibc.write(descriptor, block.baseAddress! + done, block.count - done)
      if count < 0 {
        if errno == EINTR { continue }
        throw FileError("write", path, code: errno)
      }
      done += count
    }
    size += block.count
    Self.total.add(block.count, ordering: .relaxed)
  }
}
