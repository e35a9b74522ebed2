import Foundation

/// Memory of this process.
package enum ProcessMemory {
  /// The most that was resident so far, in GB (1e9 bytes); 0 where the system does not say.
  package static var peakGB: Double {
    guard let status = try? String(contentsOfFile: "/proc/self/status", encoding: .utf8) else { return 0 }
    for line in status.split(separator: "\n") where line.hasPrefix("VmHWM:") {
      let kilobytes = line.split(whereSeparator: { $0 == " " || $0 == "\t" }).compactMap { Double($0) }.first ?? 0
      return kilobytes * 1024 / 1e9
    }
    return 0
  }
}
