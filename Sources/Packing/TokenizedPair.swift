/// One preference pair as token ids: two whole sequences that begin with the same prompt.
package struct TokenizedPair: Sendable, Equatable {
  /// Prompt and chosen completion, BOS and EOS included.
  package var chosen: [Int32]
  /// Prompt and rejected completion, BOS and EOS included.
  package var rejected: [Int32]
  /// Tokens of `chosen` that belong to the prompt; the completion is what follows.
  package var chosenPromptLength: Int
  /// Tokens of `rejected` that belong to the prompt. Differs from `chosenPromptLength` only when a token spans the
  /// boundary.
  package var rejectedPromptLength: Int

  package init(chosen: [Int32], rejected: [Int32], chosenPromptLength: Int, rejectedPromptLength: Int) {
    self.chosen = chosen
    self.rejected = rejected
    self.chosenPromptLength = chosenPromptLength
    self.rejectedPromptLength = rejectedPromptLength
  }

  /// Length of the longest common beginning of the two whole sequences: the rows both can share.
  package var sharedPrefixLength: Int {
    let shorter = min(chosen.count, rejected.count)
    return (0..<shorter).first { chosen[$0] != rejected[$0] } ?? shorter
  }

  /// Rows the decoder computes for this pair. The last token of a sequence predicts nothing, so it needs no row of its
  /// own.
  package var rowCount: Int {
    let shared = sharedPrefixLength
    let longer = max(chosen.count, rejected.count)
    if shared == longer { return max(shared - 1, 0) }
    return shared + max(chosen.count - shared - 1, 0) + max(rejected.count - shared - 1, 0)
  }
}
