/// Which tokens of the chosen sequence the negative log-likelihood covers (`nll_tokens`).
package enum NLLTokens: String, Sendable, CaseIterable {
  /// Prompt and completion, as TRL does. Token 0 has no prediction.
  case all
  /// The completion only: the paper's formula.
  case completion
}
