package import Collectives
import ModelFiles

/// Ranks that see different files under one name. Thrown on all ranks.
package struct InputFileDifference: RaisedOnEveryRank, CustomStringConvertible, Equatable {
  package var description: String
}

extension Communicator {
  /// Checks that all ranks which see these files see the same ones. Rank 0 reads them for all, so other hosts need not
  /// have them; but a host with other data under the same name is a mistake worth stopping for.
  ///
  /// Large files are compared by size, first and last megabyte.
  /// - Parameter what: the files are, for the message, such as "data".
  /// - Throws: `InputFileDifference` on all ranks. `MPIError`.
  package func requireSameFiles(_ what: String, _ paths: [String]) throws {
    guard worldSize > 1, !paths.isEmpty else { return }
    let own = paths.map { InputFiles.summary(of: $0) ?? "" }.joined(separator: "\n")
    let all = try allGather(own).map { $0.split(separator: "\n", omittingEmptySubsequences: false) }
    guard all.contains(where: { $0 != all[0] }) else { return }
    let hosts = try allGather(hostName)
    for (index, path) in paths.enumerated() {
      let seen = all.indices.filter { !all[$0][index].isEmpty }
      guard let reference = seen.first, let other = seen.first(where: { all[$0][index] != all[reference][index] })
      else {
        continue
      }
      throw InputFileDifference(
        description:
          "the ranks do not have the same \(what): \(path) is \(all[other][index]) for rank \(other) on \(hosts[other]), \(all[reference][index]) for rank \(reference) on \(hosts[reference])"
      )
    }
  }

  /// The same for the files of a model that rank 0 sees, a Hugging Face folder or a GGUF file; none at `path` is no error
  /// here.
  package func requireSameModel(_ path: String) throws {
    let names = try fromRoot { Array(ModelSource.filesRead(at: path).joined(separator: "\n").utf8) }
    try requireSameFiles(
      "model", names.split(separator: UInt8(ascii: "\n")).map { String(decoding: $0, as: UTF8.self) })
  }
}

enum InputFiles {
  private static let sample = 1 << 20

  /// Size and checksum; nil for what cannot be read.
  static func summary(of path: String) -> String? {
    guard let file = try? ReadableFile(path: path) else { return nil }
    let size = file.size
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    for start in Set([0, max(0, size - sample)]).sorted() {
      guard let bytes = try? file.bytes(at: start, count: min(sample, size - start)) else { return nil }
      for byte in bytes { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
    }
    return "\(size) bytes with checksum \(String(hash, radix: 16))"
  }
}
