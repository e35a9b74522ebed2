import Foundation
package import ModelFiles

/// A file that grows by whole records: each is handed to the system at once, and a record that does not fit is taken
/// back, so that the file never ends in half of one.
package final class AppendedFile {
  package let path: String
  private let descriptor: Int32
  private var length: off_t

  /// Opens for appending, creating the file when missing.
  package init(path: String) throws(FileError) {
    self.path = path
    descriptor = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o666)
    guard descriptor >= 0 else { throw FileError("open", path, code: errno) }
    var status = stat()
    length = fstat(descriptor, &status) == 0 ? status.st_size : 0
  }

  deinit { close(descriptor) }

  package func append(_ bytes: [UInt8]) throws(FileError) {
    var written = 0
    while written < bytes.count {
      let count = bytes[written...].withUnsafeBytes { Foundation.write(descriptor, $0.baseAddress, $0.count) }
      if count < 0, errno == EINTR { continue }
      guard count > 0 else {
        let error = FileError("write", path, code: errno)
        // What is left when this fails too is half a record, which readers skip.
        _ = ftruncate(descriptor, length)
        throw error
      }
      written += count
    }
    length += off_t(written)
  }

  package func synchronize() throws(FileError) {
    guard fsync(descriptor) == 0 || errno == EINVAL || errno == EROFS else {
      throw FileError("write", path, code: errno)
    }
  }

  /// Gives the file at `path` these contents; the old one stays until the new one is complete.
  /// - Parameter durably: wait until they are on the disk.
  package static func replace(_ path: String, with contents: [UInt8], durably: Bool = true) throws(FileError) {
    let temporary = "\(path).\(getpid()).tmp"
    unlink(temporary)
    do throws(FileError) {
      let file = try AppendedFile(path: temporary)
      try file.append(contents)
      if durably { try file.synchronize() }
      guard rename(temporary, path) == 0 else { throw FileError("replace", path, code: errno) }
    } catch {
      unlink(temporary)
      throw error
    }
  }
}
