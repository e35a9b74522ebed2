import Glibc

/// A system call on a file failed.
package struct FileError: Error, CustomStringConvertible, Equatable {
  /// What was attempted, as in "cannot `open` PATH".
  package var operation: String
  package var path: String
  /// `errno`; 0 when the file ended early.
  package var code: Int32
  /// Says more than `code` where the system has no word for it.
  package var reason: String?

  package init(_ operation: String, _ path: String, code: Int32) {
    self.operation = operation
    self.path = path
    self.code = code
  }

  package init(_ operation: String, _ path: String, reason: String) {
    self.init(operation, path, code: 0)
    self.reason = reason
  }

  package var description: String {
    if let reason { return "cannot \(operation) \(path): \(reason)" }
    if code == 0 {
      return "cannot \(operation) \(path): the file ended early; it may have been cut off or changed meanwhile"
    }
    return "cannot \(operation) \(path): \(String(cString: strerror(code))) (errno \(code))\(hint)"
  }

  private var hint: String {
    switch code {
    case ENOSPC, EDQUOT: "; free some space or choose another folder"
    case EFBIG: "; the file size limit (ulimit -f) or that of the file system is reached"
    case EROFS, EACCES, EPERM: "; check that this user may do that there"
    default: ""
    }
  }
}
