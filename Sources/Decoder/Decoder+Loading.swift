package import ModelFiles
import Tensors

extension Decoder {
  /// Reads all parameters from a Hugging Face model's tensors. Tensors the decoder has no use for (old rotary buffers,
  /// a second copy of tied embeddings) are passed over.
  /// - Throws: `DecoderError.missingTensors`, `.shape`, or the file's own errors.
  package func load(from source: some TensorSource) throws {
    // A base model saved without its head has names without the prefix.
    func nameInFile(_ name: String) -> String {
      let bare = name.hasPrefix("model.") ? String(name.dropFirst("model.".count)) : name
      return source.info(name) == nil && source.info(bare) != nil ? bare : name
    }
    let missing = layout.entries.map(\.name).filter { source.info(nameInFile($0)) == nil }
    guard missing.isEmpty else { throw DecoderError.missingTensors(missing) }
    for entry in layout.entries {
      let name = nameInFile(entry.name)
      let shape = source.info(name)?.shape ?? []
      guard shape == entry.shape else { throw DecoderError.shape(tensor: name, expected: entry.shape, found: shape) }
      try source.read(name, into: .init(rebasing: parameters[entry.range]))
    }
  }

  /// Fills the parameters with random numbers as HF initialises them: normal with deviation `initializerRange`, norms
  /// one, biases and the padding token's embedding zero.
  package func initialize(seed: UInt64, initializerRange: Float = 0.02) {
    for (index, entry) in layout.entries.enumerated() {
      let values = UnsafeMutableBufferPointer(rebasing: parameters[entry.range])
      if entry.decays {
        var random = CounterRandom(seed: seed, stream: UInt64(index))
        for place in values.indices { values[place] = random.normal() * initializerRange }
      } else {
        values.update(repeating: entry.name.hasSuffix(".bias") ? 0 : 1)
      }
    }
    if let padTokenID = configuration.padTokenID {
      let row = places.embedding + padTokenID * configuration.hiddenSize
      parameters[row..<(row + configuration.hiddenSize)].update(repeating: 0)
    }
  }
}
