import Foundation
import ModelFiles

/// The folder of golden files; `Golden/generate.py` writes them.
let golden = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Golden").path

extension TensorSource {
  /// All values of a tensor.
  func values(_ name: String) throws -> [Float] {
    var values = [Float](repeating: .nan, count: info(name)?.count ?? 0)
    try values.withUnsafeMutableBufferPointer { try read(name, into: $0) }
    return values
  }
}

func bits(_ values: [Float]) -> [UInt32] { values.map(\.bitPattern) }

/// Calls `body` with a new folder and removes it afterwards.
func withTemporaryFolder<Result>(_ body: (String) throws -> Result) throws -> Result {
  let folder = FileManager.default.temporaryDirectory.appending(path: "orpo-dist-tests-\(UUID().uuidString)").path
  try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(atPath: folder) }
  return try body(folder)
}

func write(_ bytes: [UInt8], to path: String) throws { try Data(bytes).write(to: URL(filePath: path)) }

func contents(_ path: String) throws -> [UInt8] { Array(try Data(contentsOf: URL(filePath: path))) }

func littleEndian(_ value: some FixedWidthInteger) -> [UInt8] { withUnsafeBytes(of: value.littleEndian, Array.init) }

/// A safetensors file with this header and so many bytes of data.
func safetensors(_ header: String, dataBytes: Int) -> [UInt8] {
  littleEndian(UInt64(header.utf8.count)) + Array(header.utf8) + (0..<dataBytes).map { UInt8(truncatingIfNeeded: $0) }
}
