import Foundation

/// Coverage-guided fuzzing of everything that reads files from outside, by libFuzzer: launch/fuzz.sh builds and runs it.
/// A target passes when whatever the bytes are is either read or thrown back as an error: no trap, no access outside
/// memory, no hang, no flood of memory.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzOneInput(_ start: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
  let bytes = Array(UnsafeBufferPointer(start: start, count: start == nil ? 0 : count))
  // An error is the right answer to most inputs.
  try? Fuzz.target(bytes)
  return 0
}

/// The entry that SwiftPM gives an executable; libFuzzer's own is left out of the program then.
@_cdecl("fuzz_main")
public func fuzzMain(_ count: Int32, _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>) -> Int32 {
  var (count, arguments) = (count, arguments)
  return runDriver(&count, &arguments, fuzzOneInput)
}

@_silgen_name("LLVMFuzzerRunDriver")
private func runDriver(
  _ count: UnsafeMutablePointer<Int32>,
  _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>>,
  _ target: @convention(c) (UnsafePointer<UInt8>?, Int) -> Int32
) -> Int32

enum Fuzz {
  /// Chosen by ORPO_DIST_FUZZ_TARGET.
  static let target: @Sendable ([UInt8]) throws -> Void = {
    let name = ProcessInfo.processInfo.environment["ORPO_DIST_FUZZ_TARGET"] ?? ""
    guard let target = targets[name] else {
      print("ORPO_DIST_FUZZ_TARGET must be one of \(targets.keys.sorted().joined(separator: ", "))")
      exit(2)
    }
    return target
  }()

  static let folder: String = {
    let folder = NSTemporaryDirectory() + "orpo-dist-fuzz-" + UUID().uuidString
    try? FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    return folder
  }()

  /// A file with these bytes; the one before of that name is gone.
  static func file(_ name: String, _ bytes: [UInt8]) -> String {
    let path = folder + "/" + name
    let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
    guard descriptor >= 0, write(descriptor, bytes, bytes.count) == bytes.count, close(descriptor) == 0 else {
      print("\(path) cannot be written")
      exit(2)
    }
    return path
  }
}
