package import Collectives
import ModelFiles

/// The program that runs in this process.
enum Program {
  /// `0.1.0, build 8c1f...`: the version, and a checksum of the executable's bytes.
  static var identity: String { "\(Version.text), build \(build(of: "/proc/self/exe"))" }

  /// 16 hexadecimal digits; `unknown` when the file cannot be read.
  static func build(of path: String) -> String {
    guard let file = try? ReadableFile(path: path) else { return "unknown" }
    var hash = StripeHash()
    let piece = 1 << 20
    for start in stride(from: 0, to: file.size, by: piece) {
      guard let bytes = try? file.bytes(at: start, count: min(piece, file.size - start)) else { return "unknown" }
      bytes.withUnsafeBytes { hash.update($0) }
    }
    let digits = String(hash.finished(), radix: 16)
    return String(repeating: "0", count: 16 - digits.count) + digits
  }
}

extension Communicator {
  /// Checks that all ranks run the same executable, byte for byte: another build may speak or compute otherwise.
  ///
  /// - Throws: `RankDifference` on all ranks. `MPIError`.
  package func requireSameProgram() throws { try requireSame("orpo-dist program", Program.identity) }
}
