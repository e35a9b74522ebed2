package import Packing

/// What the mean of the NLL term means when pairs differ in length (`loss_normalization`).
package enum LossNormalization: String, Sendable, CaseIterable {
  /// Mean over pairs of each pair's own token mean.
  case pair
  /// One token mean over the whole global batch.
  case token
  /// Token mean inside each per-device batch, then the mean of those: what TRL computes at any batch size.
  case microbatch
}

extension NLLTokens {
  /// Tokens of a pair that the mean runs over.
  package func count(_ measure: PairMeasure) -> Int {
    switch self {
    case .all: measure.chosenTokens
    case .completion: measure.chosenCompletionTokens
    }
  }
}
