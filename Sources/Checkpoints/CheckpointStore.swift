package import ModelFiles

/// The checkpoints `checkpoint-N/` of an output folder. Used by one process of each disk for saving; any rank may load.
package struct CheckpointStore: Sendable {
  package let outputDirectory: String

  /// Nothing is touched before the first call.
  package init(outputDirectory: String) { self.outputDirectory = outputDirectory }

  /// Writes `checkpoint-STEP/`. It appears complete or not at all: files go to a hidden folder beside it, down to the
  /// disk, the manifest last; then the folder is renamed. An older checkpoint of the same step stays until the new one
  /// is in its place.
  /// - Throws: `FileError` or `CheckpointError`; then the hidden folder is gone and existing checkpoints are as they
  ///   were.
  package func save(step: Int, contents: CheckpointContents) throws {
    let draft = try CheckpointDraft(self, step: step)
    do {
      let written = try contents.write(into: draft.directory)
      try draft.seal(CheckpointManifest(step: step, entries: written.map { .init($0) }))
      try draft.publish()
    } catch {
      // The first error is what counts.
      draft.withdraw()
      throw error
    }
    draft.settle()
  }

  /// The complete checkpoint of the highest step, names and sizes checked; nil when there is none.
  /// - Throws: `FileError` when the output folder cannot be listed. A folder that does not exist holds no checkpoints.
  package func newest() throws -> Checkpoint? {
    try steps().reversed().lazy.compactMap { try? open($0) }.first
  }

  /// The checkpoint of this step, names and sizes checked.
  /// - Throws: `CheckpointError`, `FileError`.
  package func checkpoint(step: Int) throws -> Checkpoint { try open(step) }

  /// Removes the oldest complete checkpoints up to that of step `saved`, which has just been written, until `limit` of them are
  /// left. Those of later steps are of another course of the run, or damaged: they are neither counted nor touched, nor are
  /// incomplete folders.
  /// - Returns: the names of what was removed.
  @discardableResult
  package func prune(keeping limit: Int, upTo saved: Int) throws -> [String] {
    precondition(limit >= 1, "save_total_limit must be at least 1")
    var removed: [String] = []
    for step in try steps().filter({ $0 <= saved && (try? open($0)) != nil }).dropLast(limit) {
      // Renamed first, so that an interruption leaves nothing that looks like a checkpoint.
      let away = outputDirectory + "/." + Self.name(step) + ".del-" + Folders.temporarySuffix()
      try Folders.move(directory(step), to: away)
      try Folders.remove(away)
      removed.append(Self.name(step))
    }
    if !removed.isEmpty { try Folders.sync(outputDirectory) }
    return removed
  }

  /// Clears what runs that died left behind: hidden folders and files whose name is one of ours and that no living process
  /// holds. A checkpoint that had been moved aside to be replaced is put back when the new one did not arrive.
  /// - Returns: the names of what was removed or put back.
  @discardableResult
  package func removeLeftovers() throws -> [String] {
    var handled: [String] = []
    for name in try Folders.names(in: outputDirectory) ?? [] {
      guard let leftover = Leftover(name) else { continue }
      let path = outputDirectory + "/" + name
      switch leftover {
      case .temporary:
        guard TemporaryFolder.isAbandoned(path) else { continue }
        try Folders.remove(path)
      case .replaced(let step):
        if Folders.exists(directory(step)) {
          try Folders.remove(path)
        } else {
          do {
            _ = try Checkpoint(directory: path)
            try Folders.move(path, to: directory(step))
          } catch is CheckpointError {
            try Folders.remove(path)
          } catch {
            // The disk may be able to read it another time.
            continue
          }
        }
      case .deleted: try Folders.remove(path)
      case .file:
        guard Folders.isFile(path), TemporaryFolder.hasRested(path) else { continue }
        try Folders.remove(path)
      }
      handled.append(name)
    }
    return handled
  }

  package static func name(_ step: Int) -> String { "checkpoint-\(step)" }

  package func directory(_ step: Int) -> String { outputDirectory + "/" + Self.name(step) }

  private func open(_ step: Int) throws -> Checkpoint {
    let checkpoint = try Checkpoint(directory: directory(step))
    guard checkpoint.step == step else {
      throw CheckpointError.invalidManifest(
        path: directory(step) + "/" + CheckpointManifest.fileName, reason: "it is of step \(checkpoint.step)")
    }
    return checkpoint
  }

  /// Steps of all folders called `checkpoint-N`, ascending.
  package func steps() throws(FileError) -> [Int] {
    (try Folders.names(in: outputDirectory) ?? []).compactMap { Self.step($0) }.sorted()
  }

  private static func step(_ name: some StringProtocol) -> Int? {
    guard name.hasPrefix("checkpoint-"), let step = Int(name.dropFirst(11)), name == Self.name(step), step >= 0 else {
      return nil
    }
    return step
  }

  /// A hidden folder or file of ours, by its name.
  private enum Leftover {
    case temporary
    case replaced(step: Int)
    case deleted
    /// Of a file that a run replaces again and again, such as status.json.
    case file

    init?(_ name: String) {
      // ".checkpoint-N.KIND-<24 hexadecimal digits>", ".model.tmp-<...>" or ".disk.tmp-<...>"; ".status.json.tmp-<...>"
      guard name.hasPrefix("."), let dot = name.lastIndex(of: "."), dot != name.startIndex else { return nil }
      let of = name[..<dot].dropFirst()
      let kind = name[dot...].dropFirst()
      guard kind.count == 28, kind.dropFirst(4).allSatisfy({ "0123456789abcdef".contains($0) }) else { return nil }
      switch (kind.prefix(4), CheckpointStore.step(of)) {
      case ("tmp-", .some): self = .temporary
      case ("tmp-", nil) where of == "model" || of == "disk": self = .temporary
      case ("tmp-", nil): self = .file
      case ("old-", let step?): self = .replaced(step: step)
      case ("del-", .some): self = .deleted
      default: return nil
      }
    }
  }
}
