import ModelFiles

extension CheckpointStore {
  /// Writes the final model straight into the output folder, beside the checkpoints. Every file is complete on the disk
  /// before it gets its name; model files of an earlier, differently sharded model are removed afterwards, as loaders
  /// would prefer them or mix them up.
  /// - Throws: `FileError` or `CheckpointError`. When writing fails, the folder is as it was.
  package func saveModel(_ contents: CheckpointContents) throws {
    try Folders.create(outputDirectory)
    let folder = try TemporaryFolder(in: outputDirectory, prefix: ".model.tmp-")
    defer { withExtendedLifetime(folder) {} }
    do {
      let written = try contents.write(into: folder.path).map(\.name)
      // The index last: until then it names shards that are there.
      let ordered =
        written.filter { $0 != SafetensorsFolder.indexFile } + written.filter { $0 == SafetensorsFolder.indexFile }
      for name in ordered { try Folders.move(folder.path + "/" + name, to: outputDirectory + "/" + name) }
      for name in try Folders.names(in: outputDirectory) ?? [] where Self.isModelFile(name) && !written.contains(name) {
        try Folders.remove(outputDirectory + "/" + name)
      }
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
