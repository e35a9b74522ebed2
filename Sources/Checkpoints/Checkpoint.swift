package import ModelFiles

/// Where a tensor of a checkpoint is to go: fp32 values in the caller's memory.
package struct TensorDestination {
  package var name: String
  /// Outermost dimension first.
  package var shape: [Int]
  package var values: UnsafeMutableBufferPointer<Float>

  package init(name: String, shape: [Int], values: UnsafeMutableBufferPointer<Float>) {
    self.name = name
    self.shape = shape
    self.values = values
  }
}

/// A complete checkpoint on disk: its manifest is there, and every file has the size it was written with. Where hosts have
/// disks of their own and all ranks wrote, this is the part on one disk.
package struct Checkpoint: Sendable {
  package let directory: String
  package let step: Int
  /// Those in this folder.
  package let files: [WrittenFile]

  /// Opens a checkpoint folder; contents are not read (see `verify`).
  /// - Throws: `CheckpointError` naming the first thing that is missing or differs; `FileError`.
  package init(directory: String) throws {
    let manifest = try CheckpointManifest(directory: directory)
    self.init(directory: directory, step: manifest.step, files: try manifest.files(in: directory))
  }

  /// A folder of which is known that it holds these files.
  package init(directory: String, step: Int, files: [WrittenFile]) {
    self.directory = directory
    self.step = step
    self.files = files
  }

  /// Reads every file and compares its checksum with the manifest.
  package func verify() throws {
    for file in files { try file.requireContents(in: directory) }
  }

  /// The contents of a plain file such as "trainer_state.json".
  /// - Parameter limit: bytes; a longer file is an error, before memory is taken for it.
  package func bytes(of name: String, limit: Int) throws -> [UInt8] {
    try ReadableFile(path: path(of: name)).contents(limit: limit)
  }

  /// Whether the checkpoint holds this file.
  package func contains(_ name: String) -> Bool { files.contains { $0.name == name } }

  /// Reads the model, single file or shards, into `destinations`.
  /// - Throws: `CheckpointError` unless exactly these tensors with these shapes are there; nothing is read before that
  ///   is known.
  package func loadModel(into destinations: [TensorDestination]) throws {
    try Self.load(SafetensorsFolder(directory: directory), path: directory, into: destinations)
  }

  /// Opens a further file of tensors, such as "optimizer.safetensors", to be read in parts.
  /// - Throws: `CheckpointError` unless exactly these tensors with these shapes are there; `FileError`,
  ///   `SafetensorsError`.
  package func tensors(_ file: String, expecting tensors: [(name: String, shape: [Int])]) throws -> SafetensorsFile {
    let source = try self.tensors(file)
    try Self.check(source, path: source.path, holds: tensors)
    return source
  }

  /// Opens a file of tensors that says itself which it holds.
  package func tensors(_ file: String) throws -> SafetensorsFile { try SafetensorsFile(path: path(of: file)) }

  private static func load(_ source: some TensorSource, path: String, into destinations: [TensorDestination]) throws {
    try check(source, path: path, holds: destinations.map { ($0.name, $0.shape) })
    for destination in destinations { try source.read(destination.name, into: destination.values) }
  }

  private static func check(
    _ source: some TensorSource, path: String, holds expected: [(name: String, shape: [Int])]
  ) throws(CheckpointError) {
    var wanted = NameIndex()
    for (position, tensor) in expected.enumerated() {
      let isNew = wanted.insert(tensor.name, at: position)
      precondition(isNew, "tensor '\(tensor.name)' is asked for twice")
    }
    let missing = expected.map(\.name).filter { source.info($0) == nil }
    guard missing.isEmpty else { throw .missingTensors(path: path, names: missing) }
    let unexpected = source.tensors.map(\.name).filter { wanted[$0] == nil }
    guard unexpected.isEmpty else { throw .unexpectedTensors(path: path, names: unexpected) }
    for tensor in expected {
      let found = source.info(tensor.name)?.shape ?? []
      guard found == tensor.shape else {
        throw .shapeDiffers(path: path, tensor: tensor.name, expected: tensor.shape, found: found)
      }
    }
  }

  private func path(of name: String) throws(CheckpointError) -> String {
    guard contains(name) else { throw .noSuchFile(checkpoint: directory, file: name) }
    return directory + "/" + name
  }
}
