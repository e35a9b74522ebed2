import Foundation

/// The terminal that a stream ends on, also through mpirun, which hands a rank's output on.
package struct Terminal: Sendable {
  /// Width at this moment.
  package var columns: @Sendable () -> Int

  package init(columns: @escaping @Sendable () -> Int) { self.columns = columns }

  /// The terminal behind standard error; nil for a file, a pipe or a terminal without cursor movement.
  package static func onStandardError() -> Terminal? {
    let environment = ProcessInfo.processInfo.environment
    if environment["TERM"] == "dumb" || environment["TERM"] == nil { return nil }
    if isatty(STDERR_FILENO) == 1 { return Terminal(device: STDERR_FILENO) }
    // Under mpirun standard error is a pipe to the parent; whether the parent's is a terminal decides.
    guard environment["OMPI_COMM_WORLD_RANK"] != nil,
      let path = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(getppid())/fd/\(STDERR_FILENO)"),
      path.hasPrefix("/dev/pts/") || path.hasPrefix("/dev/tty")
    else { return nil }
    let device = open(path, O_RDONLY | O_NOCTTY | O_CLOEXEC)
    return device >= 0 && isatty(device) == 1 ? Terminal(device: device) : nil
  }

  /// The terminal behind standard output; nil for a file or a pipe.
  package static func onStandardOutput() -> Terminal? {
    isatty(STDOUT_FILENO) == 1 ? Terminal(device: STDOUT_FILENO) : nil
  }

  /// Whether the locale's encoding is UTF-8, by the first of the variables that decide which is set.
  package static var isUTF8: Bool {
    let environment = ProcessInfo.processInfo.environment
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].compactMap { environment[$0] }.first { !$0.isEmpty } ?? ""
    let encoding = locale.uppercased()
    return encoding.contains("UTF-8") || encoding.contains("UTF8")
  }

  /// - Parameter device: stays open for the life of the process.
  private init(device: Int32) {
    self.init {
      var size = winsize()
      return ioctl(device, UInt(TIOCGWINSZ), &size) == 0 && size.ws_col > 0 ? Int(size.ws_col) : 80
    }
  }
}
