package import Decoder
package import Packing
import Preferences

/// Operations of training steps by part: what the rows and their attention need, nothing that is computed again.
package struct StepWork: Sendable, Equatable {
  /// Forward and backward operations of the parts that multiply matrices.
  package var forward: [StepPart: Double] = [:]
  package var backward: [StepPart: Double] = [:]
  package var rows = 0
  package var tokens = 0

  package init(_ pairs: some Sequence<TokenizedPair>, model: DecoderConfiguration) {
    let attention = PairCost(perRow: 0, perAttendedRow: 1)
    var attended = 0.0
    for pair in pairs {
      rows += pair.rowCount
      tokens += pair.chosen.count + pair.rejected.count
      attended += attention(pair)
    }
    let layers = Double(model.numHiddenLayers)
    let shapes = model.layerProducts
    for (part, shape, count) in [
      (StepPart.qkv, shapes[0], layers), (.attentionOut, shapes[1], layers), (.gateUp, shapes[2], layers),
      (.down, shapes[3], layers), (.head, model.headProduct, 1),
    ] {
      forward[part] = count * shape.operationsPerRow * Double(rows)
      backward[part] = 2 * count * shape.operationsPerRow * Double(rows)
    }
    // Query with key and weight with value; backward the gradients of all four.
    let product = 2 * layers * Double(model.numAttentionHeads * model.headDim) * attended
    forward[.attention] = 2 * product
    backward[.attention] = 4 * product
  }

  package func operations(_ part: StepPart) -> Double { (forward[part] ?? 0) + (backward[part] ?? 0) }
  package var total: Double { StepPart.allCases.reduce(0) { $0 + operations($1) } }
}
