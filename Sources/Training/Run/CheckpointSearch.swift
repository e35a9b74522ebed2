import Checkpoints
import Collectives
import ModelFiles

/// A checkpoint that can be used: of every file it is known which rank has it, with the right contents.
struct FoundCheckpoint {
  /// On this rank; need not exist where `files` is empty.
  let directory: String
  let step: Int
  /// The rank that reads the model and the run's state.
  let reader: Int
  /// What this rank reads.
  let files: [WrittenFile]

  /// The files that this rank reads.
  var own: Checkpoint { Checkpoint(directory: directory, step: step, files: files) }
}

/// Looks for checkpoints on the disks of all ranks. Everything here is collective, and gives the same on all ranks.
///
/// Each file is read, and its checksum compared, by one rank that has it; where it differs, by the others that have it.
struct CheckpointSearch {
  let communicator: Communicator

  /// The usable checkpoint of the highest step; newer ones that cannot be used, newest first, and why.
  /// - Throws: when rank 0's output folder cannot be listed; what others cannot list holds nothing.
  func newest(in store: CheckpointStore) throws -> (found: FoundCheckpoint?, damaged: [(name: String, reason: String)])
  {
    let own = try communicator.together { communicator.isRoot ? try store.steps() : (try? store.steps()) ?? [] }
    let all = try communicator.allGather(own.map(String.init).joined(separator: " "))
    let steps = Set(all.flatMap { $0.split(separator: " ").compactMap { Int($0) } })
    var damaged: [(name: String, reason: String)] = []
    for step in steps.sorted(by: >) {
      do { return (try open(store.directory(step), step: step), damaged) } catch let error as Unusable {
        damaged.append(("checkpoint-\(step)", error.description))
      }
    }
    return (nil, damaged)
  }

  /// The checkpoint in folders of this name.
  /// - Parameter step: that it must be of, if it must.
  /// - Throws: `Unusable` with the same reason on all ranks; `MPIError`.
  func open(_ directory: String, step: Int? = nil) throws -> FoundCheckpoint {
    var manifest: CheckpointManifest?
    var defect = ""
    if Folders.exists(directory) {
      do {
        let read = try CheckpointManifest(directory: directory)
        if let step, read.step != step {
          throw CheckpointError.invalidManifest(
            path: directory + "/" + CheckpointManifest.fileName, reason: "it is of step \(read.step)")
        }
        manifest = read
      } catch { defect = "\(error)" }
    }
    // Folders of the same name on different disks need not be of the same checkpoint.
    let digests = try communicator.allGather(manifest.map { Self.digest($0.bytes) } ?? "")
    var reasons = Array(try communicator.allGather(defect).filter { !$0.isEmpty }.prefix(1))
    for (holder, digest) in digests.enumerated() where !digest.isEmpty && digests.firstIndex(of: digest) == holder {
      var bytes = communicator.rank == holder ? manifest?.bytes ?? [] : []
      try communicator.broadcast(&bytes, root: holder)
      do {
        return try find(
          CheckpointManifest(parsing: bytes, path: directory), directory, mayHold: manifest?.bytes == bytes)
      } catch let error as Unusable {
        reasons.append(error.description)
      }
    }
    throw Unusable(description: reasons.isEmpty ? "\(directory): no such folder" : reasons.joined(separator: "; "))
  }

  /// - Parameter mayHold: whether this rank's folder is of this manifest.
  private func find(_ manifest: CheckpointManifest, _ directory: String, mayHold: Bool) throws -> FoundCheckpoint {
    let units = Self.units(manifest)
    // "" for a unit that is here, "?" for one that is not, else what is wrong with it.
    let claims = try share(units) { unit in
      guard mayHold else { return "?" }
      for index in unit {
        do { try manifest.entries[index].file.requireSize(in: directory) } catch CheckpointError.fileMissing {
          return "?\(index)"
        } catch {
          return Self.text(error, manifest.entries[index])
        }
      }
      return ""
    }
    let candidates = units.indices.map { unit in claims.indices.filter { claims[$0][unit].isEmpty } }
    let missing = units.indices.filter { candidates[$0].isEmpty }
    guard missing.isEmpty else {
      throw Unusable(
        missing.map { unit in
          claims.map { $0[unit] }.first { !$0.hasPrefix("?") }
            ?? Self.missing(claims.map { $0[unit] }, manifest, directory)
        })
    }

    var readers = chosen(candidates, units, manifest)
    var asked = readers.map { [$0] }
    var failures: [Int: String] = [:]
    // The others only where the first finds a file damaged.
    for _ in 0..<2 {
      let verdicts = try share(units.indices.map { asked[$0].contains(communicator.rank) ? units[$0] : [] }) { unit in
        for index in unit {
          do { try manifest.entries[index].file.requireContents(in: directory) } catch {
            return Self.text(error, manifest.entries[index])
          }
        }
        return ""
      }
      for unit in units.indices where !asked[unit].isEmpty {
        if let reader = asked[unit].first(where: { verdicts[$0][unit].isEmpty }) {
          readers[unit] = reader
          failures[unit] = nil
        } else if failures[unit] == nil {
          failures[unit] = verdicts[asked[unit][0]][unit]
        }
      }
      if failures.isEmpty { break }
      asked = units.indices.map { unit in failures[unit] == nil ? [] : candidates[unit].filter { $0 != readers[unit] } }
    }
    guard failures.isEmpty else { throw Unusable(failures.sorted { $0.key < $1.key }.map(\.value)) }
    let own = units.indices.filter { readers[$0] == communicator.rank }.flatMap { units[$0] }
    return FoundCheckpoint(
      directory: directory, step: manifest.step, reader: readers[0], files: own.map { manifest.entries[$0].file })
  }

  /// Files that are read by the same rank, as places in the manifest: the model with the run's state, then each share of the
  /// moments.
  private static func units(_ manifest: CheckpointManifest) -> [[Int]] {
    let shards = manifest.entries.indices.filter {
      manifest.entries[$0].writer != nil && MomentFiles.isShard(manifest.entries[$0].file.name)
    }
    return [manifest.entries.indices.filter { !shards.contains($0) }] + shards.map { [$0] }
  }

  /// Of the ranks that have a unit one that reads it: of the model the lowest, of the rest whoever has least to read so far.
  private func chosen(_ candidates: [[Int]], _ units: [[Int]], _ manifest: CheckpointManifest) -> [Int] {
    var bytes = [Int](repeating: 0, count: communicator.worldSize)
    return units.indices.map { unit in
      let reader =
        unit == 0
        ? candidates[unit][0] : candidates[unit].min { (bytes[$0], $0) < (bytes[$1], $1) } ?? candidates[unit][0]
      // Sizes may say anything; only the balance of reading depends on them.
      bytes[reader] &+= units[unit].reduce(0) { $0 &+ manifest.entries[$1].file.size }
      return reader
    }
  }

  /// What every rank says about every unit.
  private func share(_ units: [[Int]], _ text: ([Int]) -> String) throws -> [[String]] {
    let own = units.map { $0.isEmpty ? "" : text($0) }
    // No path has a NUL in it.
    return try communicator.allGather(own.joined(separator: "\0")).map {
      $0.split(separator: "\0", omittingEmptySubsequences: false).map(String.init)
    }
  }

  private static func text(_ error: any Error, _ entry: CheckpointManifest.Entry) -> String {
    "\(error)" + (entry.writer.map { " (written by rank \($0.rank) on \($0.host))" } ?? "")
  }

  /// - Parameter claims: of all ranks about a unit that none of them has; "?" and the place of the first file that is missing.
  private static func missing(_ claims: [String], _ manifest: CheckpointManifest, _ directory: String) -> String {
    let entry = manifest.entries[claims.compactMap { Int($0.dropFirst()) }.first ?? 0]
    let path = directory + "/" + entry.file.name
    guard let writer = entry.writer else { return CheckpointError.fileMissing(path: path).description }
    return "\(path) is on no rank's disk; rank \(writer.rank) on \(writer.host) wrote it"
  }

  private static func digest(_ bytes: [UInt8]) -> String {
    var hash = StripeHash()
    bytes.withUnsafeBytes { hash.update($0) }
    return String(hash.finished(), radix: 16)
  }

  /// Why a checkpoint cannot be used; the same on all ranks.
  struct Unusable: RaisedOnEveryRank, CustomStringConvertible {
    let description: String

    init(description: String) { self.description = description }

    /// The first of several reasons.
    init(_ reasons: [String]) {
      let others = reasons.count > 3 ? "; and \(reasons.count - 3) more files" : ""
      description = reasons.prefix(3).joined(separator: "; ") + others
    }
  }
}
