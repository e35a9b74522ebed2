package import ModelFiles

/// What goes into a checkpoint or a final model folder. Tensors are whole and named; nothing depends on the number of
/// ranks.
package struct CheckpointContents {
  /// The model's parameters under Hugging Face's names, for `model.safetensors` or its shards; without any there is no
  /// such file.
  package var model: [NamedTensor]
  /// F32 for training to continue exactly; BF16 or F16 for a smaller final model.
  package var modelDType: TensorDType = .f32
  /// Above this size the model is sharded.
  package var maxShardBytes: Int = 5_000_000_000
  /// Further safetensors files, always F32, such as "optimizer.safetensors" with `exp_avg.NAME` and `exp_avg_sq.NAME`.
  package var tensorFiles: [(name: String, tensors: StreamedTensors)]
  /// Files that are only bytes here: config.json, the tokenizer's, trainer_state.json, ...
  package var files: [(name: String, bytes: [UInt8])]

  package init(
    model: [NamedTensor], tensorFiles: [(name: String, tensors: StreamedTensors)] = [],
    files: [(name: String, bytes: [UInt8])] = []
  ) {
    self.model = model
    self.tensorFiles = tensorFiles
    self.files = files
  }

  /// Writes everything into an empty folder, each file down to the disk.
  /// - Throws: `FileError`; `CheckpointError` when a file name leads elsewhere or is used twice; what a streamed tensor's
  ///   source throws.
  package func write(into directory: String) throws -> [WrittenFile] {
    let shards =
      model.isEmpty ? [] : SafetensorsWriter.shards(model, dtype: modelDType, maxShardBytes: maxShardBytes)
    var taken = NameIndex()
    let indexName = shards.count > 1 ? [SafetensorsFolder.indexFile] : []
    let names = shards.map(\.name) + indexName + tensorFiles.map(\.name) + files.map(\.name)
    for (position, name) in names.enumerated() {
      guard SafetensorsFolder.isPlainName(name), name != CheckpointManifest.fileName else {
        throw CheckpointError.invalidFileName(name)
      }
      guard taken.insert(name, at: position) else { throw CheckpointError.fileTwice(name) }
    }
    var written = try SafetensorsWriter.write(shards, directory: directory, dtype: modelDType)
    for (name, tensors) in tensorFiles {
      written.append(try SafetensorsWriter.write(tensors, to: directory + "/" + name))
    }
    for (name, bytes) in files {
      var file = try WritableFile(path: directory + "/" + name)
      try file.write(bytes)
      written.append(try file.finish())
    }
    return written
  }
}
