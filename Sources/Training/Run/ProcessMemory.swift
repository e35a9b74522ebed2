import Foundation

/// Memory of this process and its machine.
package enum ProcessMemory {
  /// The most that was resident so far, in GB (1e9 bytes); 0 where the system does not say.
  package static var peakGB: Double {
    Double(bytes("VmHWM", in: "/proc/self/status") ?? 0) / 1e9
  }

  /// Memory of the machine, and how much of it programs can still get, in bytes.
  static var installedBytes: Int { bytes("MemTotal", in: "/proc/meminfo") ?? 0 }
  static var availableBytes: Int { bytes("MemAvailable", in: "/proc/meminfo") ?? installedBytes }

  /// The value of `NAME:  N kB`; nil where the system does not say.
  private static func bytes(_ name: String, in file: String) -> Int? {
    guard let text = try? String(contentsOfFile: file, encoding: .utf8) else { return nil }
    for line in text.split(separator: "\n") where line.hasPrefix(name + ":") {
      return line.split(whereSeparator: { $0 == " " || $0 == "\t" }).compactMap { Int($0) }.first.map { $0 * 1024 }
    }
    return nil
  }
}
