import Tensors

/// A linear layer: `Y[rows, outputs] = X[rows, inputs] * W[outputs, inputs]^T`.
package struct LinearShape: Sendable, Equatable {
  package var name: String
  package var inputs: Int
  package var outputs: Int

  package init(name: String, inputs: Int, outputs: Int) {
    self.name = name
    self.inputs = inputs
    self.outputs = outputs
  }

  package var parameters: Int { inputs * outputs }
  /// Operations of one row in one of the three products (forward, input gradient, weight gradient).
  package var operationsPerRow: Double { 2 * Double(inputs) * Double(outputs) }
}

extension DecoderConfiguration {
  /// The products of one layer, as they are computed: q, k and v together, gate and up together.
  package var layerProducts: [LinearShape] {
    [
      LinearShape(name: "q k v", inputs: hiddenSize, outputs: qkvSize),
      LinearShape(name: "attention out", inputs: querySize, outputs: hiddenSize),
      LinearShape(name: "gate up", inputs: hiddenSize, outputs: 2 * intermediateSize),
      LinearShape(name: "down", inputs: intermediateSize, outputs: hiddenSize),
    ]
  }

  package var headProduct: LinearShape { LinearShape(name: "head", inputs: hiddenSize, outputs: vocabSize) }

  /// Parameters of a model of this shape, without making one.
  package var parameterCount: Int { DecoderParameters(self).layout.count }
}
