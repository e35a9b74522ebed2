import ModelFiles

extension CheckpointStore {
  /// Writes the final model straight into the output folder, beside the checkpoints. Every file is complete on the disk
  /// before any of them gets its name; model files of an earlier, differently sharded model are removed afterwards, as loaders
  /// would prefer them or mix them up.
  /// - Parameter last: a file of `contents` that is missing while the others are put in their places: where it is, they are of
  ///   one model.
  /// - Throws: `FileError` or `CheckpointError`. When writing fails, the folder is as it was.
  package func saveModel(_ contents: CheckpointContents, last: String) throws {
    try Folders.create(outputDirectory)
    let folder = try TemporaryFolder(in: outputDirectory, prefix: ".model.tmp-")
    defer { withExtendedLifetime(folder) {} }
    do {
      let written = try contents.write(into: folder.path).map(\.name)
      func put(_ name: String) throws { try Folders.move(folder.path + "/" + name, to: outputDirectory + "/" + name) }
      // Without an index, shards of two models are never read together.
      for name in [last, SafetensorsFolder.indexFile] { try Folders.remove(outputDirectory + "/" + name) }
      try Folders.sync(outputDirectory)
      for name in written where name != last && name != SafetensorsFolder.indexFile { try put(name) }
      for name in try Folders.names(in: outputDirectory) ?? [] where Self.isModelFile(name) && !written.contains(name) {
        try Folders.remove(outputDirectory + "/" + name)
      }
      for name in [SafetensorsFolder.indexFile, last] where written.contains(name) { try put(name) }
      try Folders.sync(outputDirectory)
      try Folders.remove(folder.path)
    } catch {
      try? Folders.remove(folder.path)
      throw error
    }
  }

  /// `model.safetensors`, its index, or `model-00001-of-00002.safetensors`.
  private static func isModelFile(_ name: String) -> Bool {
    if name == SafetensorsFolder.singleFile || name == SafetensorsFolder.indexFile { return true }
    guard name.hasPrefix("model-"), name.hasSuffix(".safetensors") else { return false }
    let numbers = name.dropFirst(6).dropLast(12).split(separator: "-", omittingEmptySubsequences: false)
    return numbers.count == 3 && numbers[1] == "of" && Int(numbers[0]) != nil && Int(numbers[2]) != nil
  }
}
