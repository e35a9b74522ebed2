import JSON
package import ModelFiles
import Tensors

/// `checkpoint.json`, written last into a checkpoint: its step and every file with size and checksum. A folder without
/// it is incomplete.
///
/// Where all ranks wrote, it also says which of them wrote what to which disk; it is then the same on all disks, and each
/// holds the files that were written to it.
package struct CheckpointManifest: Sendable, Equatable {
  /// A file of a checkpoint.
  package struct Entry: Sendable, Equatable {
    package var file: WrittenFile
    /// nil where rank 0 wrote everything.
    package var writer: Writer?

    package init(_ file: WrittenFile, writer: Writer? = nil) {
      self.file = file
      self.writer = writer
    }
  }

  /// The rank that wrote a file, and which of the output folders' disks it wrote to.
  package struct Writer: Sendable, Equatable {
    package var rank: Int
    package var host: String
    package var disk: Int

    package init(rank: Int, host: String, disk: Int) {
      self.rank = rank
      self.host = host
      self.disk = disk
    }
  }

  package static let fileName = "checkpoint.json"
  private static let sizeLimit = 16 << 20

  package var step: Int
  package var entries: [Entry]

  package init(step: Int, entries: [Entry]) {
    self.step = step
    self.entries = entries
  }

  /// Reads the manifest of a checkpoint folder.
  /// - Throws: `CheckpointError` naming what is wrong with it; `FileError`.
  package init(directory: String) throws {
    let path = directory + "/" + Self.fileName
    guard Folders.exists(path) else { throw CheckpointError.noManifest(path: directory) }
    let file = try ReadableFile(path: path)
    guard file.size <= Self.sizeLimit else {
      throw CheckpointError.invalidManifest(path: path, reason: "\(file.size) bytes are too many for a list of files")
    }
    try self.init(parsing: file.contents(), path: path)
  }

  /// - Parameter path: what errors call it.
  package init(parsing bytes: [UInt8], path: String) throws(CheckpointError) {
    func invalid(_ reason: String) -> CheckpointError { .invalidManifest(path: path, reason: reason) }
    let json: JSONValue
    do { json = try JSONValue(parsing: bytes) } catch { throw invalid("\(error)") }
    guard let version = json["version"]?.integer, version == 1 || version == 2 else {
      throw invalid("'version' must be 1 or 2, found \(json["version"]?.serialized() ?? "nothing")")
    }
    guard let algorithm = json["checksum"]?.string, algorithm.possibleName == StripeHash.name else {
      throw invalid("'checksum' must be \"\(StripeHash.name)\", found \(json["checksum"]?.serialized() ?? "nothing")")
    }
    guard let step = json["step"]?.integer, step >= 0 else { throw invalid("'step' must be an integer >= 0") }
    guard let files = json["files"]?.array else { throw invalid("'files' must be a list") }
    self.step = step
    entries = []
    var names = NameIndex()
    for file in files {
      guard let name = file["name"]?.string, SafetensorsFolder.isPlainName(name),
        let size = file["size"]?.integer, size >= 0,
        let checksum = file["checksum"]?.string.flatMap({ UInt64($0, radix: 16) })
      else { throw invalid("'files' needs a plain name, a size and a checksum each, found \(file.serialized())") }
      guard names.insert(name, at: entries.count) else { throw invalid("'files' lists \(name) twice") }
      var entry = Entry(WrittenFile(name: name, size: size, checksum: checksum))
      if version == 2 {
        guard let rank = file["rank"]?.integer, rank >= 0, let disk = file["disk"]?.integer, disk >= 0,
          let host = file["host"]?.string
        else { throw invalid("'files' needs rank, host and disk each, found \(file.serialized())") }
        entry.writer = Writer(rank: rank, host: host, disk: disk)
      }
      entries.append(entry)
    }
  }

  /// Whether all ranks wrote; programs that know only rank 0's files refuse the second version.
  private var isSharded: Bool { entries.contains { $0.writer != nil } }

  package var bytes: [UInt8] {
    let files = entries.map { entry -> JSONValue in
      var members: [(key: String, value: JSONValue)] = [
        ("name", .string(entry.file.name)), ("size", .integer(entry.file.size)),
        ("checksum", .string(String(entry.file.checksum, radix: 16))),
      ]
      if let writer = entry.writer {
        members += [
          ("rank", .integer(writer.rank)), ("host", .string(writer.host)), ("disk", .integer(writer.disk)),
        ]
      }
      return .object(JSONObject(members))
    }
    let json: JSONValue = [
      "version": .integer(isSharded ? 2 : 1), "step": .integer(step), "checksum": .string(StripeHash.name),
      "files": .array(files),
    ]
    return Array((json.serialized(indent: 2) + "\n").utf8)
  }

  /// The files that lie in a folder of this manifest: all of at least one disk's, with the sizes they were written with.
  /// - Throws: `CheckpointError` naming the first that is missing or differs; `FileError`.
  func files(in directory: String) throws -> [WrittenFile] {
    var found: [WrittenFile] = []
    var missing: [(disk: Int, error: CheckpointError)] = []
    for entry in entries {
      do {
        try entry.file.requireSize(in: directory)
        found.append(entry.file)
      } catch let error as CheckpointError {
        guard case .fileMissing = error else { throw error }
        missing.append((entry.writer?.disk ?? 0, error))
      }
    }
    let disks = Set(entries.map { $0.writer?.disk ?? 0 })
    if let first = missing.first, disks.isSubset(of: missing.map(\.disk)) {
      // Of the disk that this is likeliest to be.
      let here = entries.first { entry in found.contains { $0.name == entry.file.name } }?.writer?.disk
      throw missing.first { $0.disk == here }?.error ?? first.error
    }
    return found
  }
}

extension WrittenFile {
  /// Whether the file is in `directory` with the size it was written with.
  /// - Throws: `CheckpointError` when it is not; `FileError`.
  package func requireSize(in directory: String) throws {
    let path = directory + "/" + name
    guard let found = try Folders.size(of: path) else { throw CheckpointError.fileMissing(path: path) }
    guard found == size else { throw CheckpointError.wrongSize(path: path, expected: size, found: found) }
  }

  /// Reads the file in `directory` and compares its checksum.
  /// - Throws: `CheckpointError` when it is not what was written; `FileError`.
  package func requireContents(in directory: String) throws {
    let path = directory + "/" + name
    let block = AlignedBuffer<UInt8>(count: 1 << 20)
    let file = try ReadableFile(path: path)
    guard file.size == size else { throw CheckpointError.wrongSize(path: path, expected: size, found: file.size) }
    var hash = StripeHash()
    var done = 0
    while done < file.size {
      let bytes = UnsafeMutableRawBufferPointer(start: block.pointer, count: min(block.count, file.size - done))
      try file.read(at: done, into: bytes)
      hash.update(UnsafeRawBufferPointer(bytes))
      done += bytes.count
    }
    let found = hash.finished()
    guard found == checksum else {
      throw CheckpointError.wrongChecksum(path: path, expected: checksum, found: found)
    }
  }
}
