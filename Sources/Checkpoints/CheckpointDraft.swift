package import ModelFiles

/// A checkpoint being written: a hidden folder beside its place, which one process makes and several may write into.
///
/// Files first, each down to the disk; then `seal`, `publish` and `settle`. Until `settle`, `withdraw` leaves everything as it
/// was before, so that several drafts of the same step on different disks appear together or not at all.
package final class CheckpointDraft {
  private let store: CheckpointStore
  private let step: Int
  private let folder: TemporaryFolder
  private var isPublished = false
  /// Where an older checkpoint of the same step is meanwhile.
  private var replaced: String?

  /// Makes the folder, and the output folder where that is missing.
  package init(_ store: CheckpointStore, step: Int) throws(FileError) {
    precondition(step >= 0, "a checkpoint cannot be of step \(step)")
    self.store = store
    self.step = step
    try Folders.create(store.outputDirectory)
    folder = try TemporaryFolder(in: store.outputDirectory, prefix: "." + CheckpointStore.name(step) + ".tmp-")
  }

  package var directory: String { folder.path }

  /// Within the output folder.
  package var name: String { String(folder.path.dropFirst(store.outputDirectory.count + 1)) }

  /// Writes the manifest: all files are there.
  package func seal(_ manifest: CheckpointManifest) throws(FileError) {
    var file = try WritableFile(path: folder.path + "/" + CheckpointManifest.fileName)
    try file.write(manifest.bytes)
    _ = try file.finish()
    try Folders.sync(folder.path)
  }

  /// Gives the folder its name. An older checkpoint of the same step is moved aside.
  package func publish() throws(FileError) {
    let destination = store.directory(step)
    if Folders.exists(destination) {
      let aside = store.outputDirectory + "/." + CheckpointStore.name(step) + ".old-" + Folders.temporarySuffix()
      try Folders.move(destination, to: aside)
      replaced = aside
    }
    try Folders.move(folder.path, to: destination)
    isPublished = true
    try Folders.sync(store.outputDirectory)
  }

  /// The new checkpoint stays: an old one that cannot be removed is left for `removeLeftovers`.
  package func settle() {
    if let replaced { try? Folders.remove(replaced) }
  }

  /// Undoes what was done so far, as far as the disk lets it.
  package func withdraw() {
    let destination = store.directory(step)
    if isPublished { try? Folders.move(destination, to: folder.path) }
    if let replaced { try? Folders.move(replaced, to: destination) }
    try? Folders.remove(folder.path)
  }
}

extension CheckpointStore {
  /// A folder by which processes find out whether they share this output folder's disk; removed with the value.
  package final class Probe {
    private let folder: TemporaryFolder
    package let name: String

    init(_ folder: TemporaryFolder, name: String) {
      self.folder = folder
      self.name = name
    }

    deinit { try? Folders.remove(folder.path) }
  }

  /// Makes a folder of unpredictable name.
  package func probe() throws(FileError) -> Probe {
    try Folders.create(outputDirectory)
    let folder = try TemporaryFolder(in: outputDirectory, prefix: ".disk.tmp-")
    return Probe(folder, name: String(folder.path.dropFirst(outputDirectory.count + 1)))
  }

  /// Whether another process's `probe` or `CheckpointDraft` of this name is in this output folder, which is made where it is
  /// missing.
  package func sees(_ name: String) throws(FileError) -> Bool {
    // Making and listing a folder asks the server; a plain look-up may be answered by what a network file system remembers.
    try Folders.create(outputDirectory)
    return try Folders.names(in: outputDirectory)?.contains(name) ?? false
  }
}
