import Checkpoints
import Foundation
package import ModelFiles

/// A file that grows by whole records: each is handed to the system at once. One that does not fit is taken back, so that
/// the file never ends in half of one, and written before the next one when there is room again.
package final class AppendedFile {
  package let path: String
  private let descriptor: Int32
  /// Records that found no room, and how much of them is kept.
  private var waiting: [UInt8] = []
  private static let mostWaiting = 4 << 20

  /// Opens for appending, creating the file when missing, with permissions after the user's umask. A link is not
  /// followed: in a folder that others can write to, it could lead anywhere.
  /// - Parameter isNew: whether the file must not exist yet.
  package init(path: String, isNew: Bool = false) throws(FileError) {
    self.path = path
    let flags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | (isNew ? O_EXCL : 0)
    descriptor = open(path, flags, 0o666)
    guard descriptor >= 0 else {
      if errno == ELOOP { throw FileError("open", path, reason: "it is a link, and links are not written through") }
      if errno == ENXIO { throw FileError("open", path, reason: "it is a pipe; expected a regular file") }
      throw FileError("open", path, code: errno)
    }
    var status = stat()
    let isKnown = fstat(descriptor, &status) == 0
    guard !isKnown || status.st_mode & S_IFMT != S_IFIFO else {
      throw FileError("open", path, reason: "it is a pipe; expected a regular file")
    }
  }

  deinit { if descriptor >= 0 { close(descriptor) } }

  /// - Throws: `FileError` when the record is not in the file yet.
  package func append(_ record: [UInt8]) throws(FileError) {
    guard waiting.count + record.count <= Self.mostWaiting else {
      try writeWaiting()
      return try write(record)
    }
    waiting += record
    try writeWaiting()
  }

  /// Tries again to write what found no room.
  package func writeWaiting() throws(FileError) {
    guard !waiting.isEmpty else { return }
    try write(waiting)
    waiting = []
  }

  private func write(_ bytes: [UInt8]) throws(FileError) {
    var written = 0
    let length = size
    while written < bytes.count {
      let count = bytes[written...].withUnsafeBytes { Foundation.write(descriptor, $0.baseAddress, $0.count) }
      if count < 0, errno == EINTR { continue }
      guard count > 0 else {
        let error = FileError("write", path, code: errno)
        // What is left when this fails too is half a record, which readers skip; so is one that another process has added
        // to meanwhile.
        if let length, size == length + off_t(written) { _ = ftruncate(descriptor, length) }
        throw error
      }
      written += count
    }
  }

  private var size: off_t? {
    var status = stat()
    return fstat(descriptor, &status) == 0 ? status.st_size : nil
  }

  package func synchronize() throws(FileError) {
    guard fsync(descriptor) == 0 || errno == EINVAL || errno == EROFS else {
      throw FileError("write", path, code: errno)
    }
  }

  /// Gives the file at `path` these contents; the old one stays until the new one is complete. What is at `path` is
  /// replaced, also where it is a link; the temporary file beside it has a name that nobody can foresee.
  /// - Parameter durably: wait until they are on the disk.
  package static func replace(_ path: String, with contents: [UInt8], durably: Bool = true) throws(FileError) {
    let name = path.lastIndex(of: "/").map { path.index(after: $0) } ?? path.startIndex
    let temporary = String(path[..<name]) + ".\(path[name...]).tmp-\(Folders.temporarySuffix())"
    do throws(FileError) {
      let file = try AppendedFile(path: temporary, isNew: true)
      try file.append(contents)
      if durably { try file.synchronize() }
      guard rename(temporary, path) == 0 else { throw FileError("replace", path, code: errno) }
    } catch {
      unlink(temporary)
      throw error
    }
  }
}
