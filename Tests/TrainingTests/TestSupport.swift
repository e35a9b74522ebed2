import Foundation

/// Bytes of a file beside the tests.
func golden(_ name: String, _ path: String = #filePath) throws -> [UInt8] {
  let folder = URL(fileURLWithPath: path).deletingLastPathComponent()
  return Array(try Data(contentsOf: folder.appendingPathComponent("Golden/\(name)")))
}

/// A directory that is gone when `body` ends.
func withTemporaryDirectory<Result>(_ body: (String) throws -> Result) throws -> Result {
  let path = NSTemporaryDirectory() + "/training-tests-\(UUID().uuidString)"
  try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(atPath: path) }
  return try body(path)
}

func text(_ path: String) throws -> String { try String(contentsOfFile: path, encoding: .utf8) }
