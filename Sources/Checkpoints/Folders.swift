import Glibc
package import ModelFiles

/// What checkpoints need of folders. `exists`, `move` and `remove` act on a link itself; all else follows it.
package enum Folders {
  /// Makes the folder and those above it, where they are missing.
  package static func create(_ path: String) throws(FileError) {
    if mkdir(path, 0o777) == 0 { return }
    let code = errno
    if code == ENOENT, let slash = path.lastIndex(of: "/"), slash != path.startIndex {
      try create(String(path[..<slash]))
      if mkdir(path, 0o777) == 0 || errno == EEXIST { return }
      throw FileError("create", path, code: errno)
    }
    var status = stat()
    guard code == EEXIST else { throw FileError("create", path, code: code) }
    guard stat(path, &status) == 0 else { throw FileError("inspect", path, code: errno) }
    guard status.st_mode & S_IFMT == S_IFDIR else { throw FileError("create", path, code: ENOTDIR) }
  }

  /// The end of a temporary name: eight hexadecimal digits that stand for this machine, and sixteen random ones, so that
  /// nobody can prepare a file of the same name.
  package static func temporarySuffix() -> String { machine + hexadecimal(.random(in: .min ... .max)) }

  /// This machine since it was started, containers included: processes with the same value see each other's locks.
  static let machine: String = {
    var hash = StripeHash()
    var name = [UInt8](repeating: 0, count: 256)
    // The kernel gives no size for this file.
    let descriptor = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC)
    if descriptor < 0 || read(descriptor, &name, name.count) <= 0 { gethostname(&name, name.count) }
    if descriptor >= 0 { close(descriptor) }
    name.withUnsafeBytes { hash.update($0) }
    return String(hexadecimal(hash.finished()).suffix(8))
  }()

  /// Sixteen digits.
  private static func hexadecimal(_ number: UInt64) -> String {
    let digits = String(number, radix: 16)
    return String(repeating: "0", count: 16 - digits.count) + digits
  }

  package static func exists(_ path: String) -> Bool {
    var status = stat()
    return lstat(path, &status) == 0
  }

  /// Whether it is a regular file, and no link to one.
  static func isFile(_ path: String) -> Bool {
    var status = stat()
    return lstat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFREG
  }

  /// Bytes of a file, through links; nil when there is none.
  static func size(of path: String) throws(FileError) -> Int? {
    var status = stat()
    if stat(path, &status) == 0 { return Int(status.st_size) }
    if errno == ENOENT { return nil }
    throw FileError("inspect", path, code: errno)
  }

  /// Names in a folder, without "." and ".."; nil when there is no such folder.
  static func names(in path: String) throws(FileError) -> [String]? {
    guard let directory = opendir(path) else {
      if errno == ENOENT { return nil }
      throw FileError("list", path, code: errno)
    }
    defer { closedir(directory) }
    return try names(directory, path: path)
  }

  private static func names(_ directory: OpaquePointer, path: String) throws(FileError) -> [String] {
    var names: [String] = []
    while true {
      errno = 0
      guard let entry = readdir(directory) else {
        guard errno == 0 else { throw FileError("list", path, code: errno) }
        return names.sorted()
      }
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      if name != ".", name != ".." { names.append(name) }
    }
  }

  /// Seconds since 1970 by the clock that stamps new files beside `path`; nil where none can be made.
  package static func time(beside path: String) -> Int? {
    let file = (path.lastIndex(of: "/").map { path[...$0] } ?? "") + ".time.tmp-" + temporarySuffix()
    let descriptor = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { return nil }
    defer {
      close(descriptor)
      unlink(file)
    }
    var status = stat()
    return fstat(descriptor, &status) == 0 ? status.st_mtim.tv_sec : nil
  }

  static func move(_ from: String, to destination: String) throws(FileError) {
    guard rename(from, destination) == 0 else { throw FileError("rename \(from) to", destination, code: errno) }
  }

  /// Waits until the folder's list of names is on the disk.
  static func sync(_ path: String) throws(FileError) {
    let descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { throw FileError("open", path, code: errno) }
    defer { close(descriptor) }
    // Some file systems have nothing to do here and say so by EINVAL.
    if fsync(descriptor) != 0, errno != EINVAL { throw FileError("sync", path, code: errno) }
  }

  /// Removes a file, a link, or a folder with all it holds. What is gone already is no error.
  static func remove(_ path: String) throws(FileError) { try remove(path, in: AT_FDCWD, path: path) }

  /// - Parameter folder: an open folder that `name` is relative to: one that somebody puts a link in place of meanwhile is
  ///   not followed.
  private static func remove(_ name: String, in folder: Int32, path: String) throws(FileError) {
    if unlinkat(folder, name, 0) == 0 || errno == ENOENT { return }
    guard errno == EISDIR || errno == EPERM else { throw FileError("remove", path, code: errno) }
    let descriptor = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
    guard descriptor >= 0 else { throw FileError("remove", path, code: errno) }
    guard let directory = fdopendir(descriptor) else {
      let code = errno
      close(descriptor)
      throw FileError("remove", path, code: code)
    }
    defer { closedir(directory) }
    for name in try names(directory, path: path) { try remove(name, in: descriptor, path: path + "/" + name) }
    guard unlinkat(folder, name, AT_REMOVEDIR) == 0 || errno == ENOENT else {
      throw FileError("remove", path, code: errno)
    }
  }
}

/// A folder of unpredictable name that its process keeps locked, so that a later run can tell a dead run's folder from
/// a live one's. Network file systems take locks on folders and tell no other host of them: hence the machine in the name.
package final class TemporaryFolder {
  let path: String
  private let descriptor: Int32

  /// Makes `PARENT/PREFIX<random>`, with permissions after the user's umask.
  init(in parent: String, prefix: String) throws(FileError) {
    path = parent + "/" + prefix + Folders.temporarySuffix()
    guard mkdir(path, 0o777) == 0 else { throw FileError("create", path, code: errno) }
    descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    if descriptor >= 0 { _ = flock(descriptor, LOCK_EX | LOCK_NB) }
  }

  deinit { if descriptor >= 0 { close(descriptor) } }

  /// Whether no process holds the folder: nobody has it locked or, where that cannot be told because another machine made it
  /// or the file system has no locks, it has not changed for an hour.
  static func isAbandoned(_ path: String) -> Bool {
    guard path.suffix(24).hasPrefix(Folders.machine) else { return hasRested(path) }
    let descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { return false }
    defer { close(descriptor) }
    if flock(descriptor, LOCK_EX | LOCK_NB) == 0 { return true }
    guard errno != EWOULDBLOCK else { return false }
    return hasRested(path)
  }

  /// Whether the file, or the folder with all that lies in it, has not been made, renamed or written for an hour. Its own file
  /// system tells the time: the clock of a file server is not that of this host.
  package static func hasRested(_ path: String) -> Bool {
    guard let now = Folders.time(beside: path) else { return false }
    let contents = ((try? Folders.names(in: path)) ?? nil) ?? []
    return ([path] + contents.map { path + "/" + $0 }).allSatisfy {
      var status = stat()
      return lstat($0, &status) == 0 && now - status.st_mtim.tv_sec > 3600
    }
  }
}
