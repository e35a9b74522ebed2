package import Packing
internal import Tokenization

/// Texts to token ids by TRL's rule (`build_tokenized_answer`, `tokenize_row` of its ORPO trainer), then truncation.
package struct PairTokenizer: Sendable {
  package struct Output: Sendable, Equatable {
    package var pair: TokenizedPair
    package var promptIsEmpty: Bool
    package var promptWasTruncated: Bool
    package var completionWasTruncated: Bool
  }

  private let encoding: TextEncoding
  private let truncation: TokenTruncation

  /// - Throws: `PreferenceFileError.invalidOption` for limits that leave no room.
  package init(encoding: TextEncoding, truncation: TokenTruncation = TokenTruncation()) throws(PreferenceFileError) {
    try truncation.validate()
    self.encoding = encoding
    self.truncation = truncation
  }

  /// - Throws: `TokenizerError.tooSlow`: the tokenizer is no good, and which rows were left out would depend on which thread
  ///   came first.
  package func tokenize(_ text: PreferenceText, at location: RowLocation) throws -> Result<Output, DataDefect> {
    var chosen: PromptAndCompletion
    var rejected: PromptAndCompletion
    do {
      let prompt = try encoding.encode(text.prompt)
      chosen = split(try encoding.encode(text.prompt + text.chosen), prompt: prompt)
      rejected = split(try encoding.encode(text.prompt + text.rejected), prompt: prompt)
    } catch let error as TokenizerError where error.isTooSlow {
      throw error
    } catch {
      return .failure(DataDefect(.tokenizer, at: location, "tokenizer: \(error)"))
    }
    addSpecialTokens(&chosen)
    addSpecialTokens(&rejected)
    if isSame(chosen, rejected) {
      return .failure(
        DataDefect(.identicalCompletions, at: location, "'chosen' and 'rejected' are the same tokens"))
    }
    let lengths = (chosen: chosen.count, rejected: rejected.count)
    let cuts = truncation.apply(chosen: &chosen, rejected: &rejected, bosTokenID: encoding.bosTokenID)
    let wasCut = cuts.prompt || cuts.completion
    for (name, sequence) in [("chosen", chosen), ("rejected", rejected)] where !hasPrediction(sequence) {
      let reason =
        wasCut
        ? "nothing is left of '\(name)': the prompt takes \(sequence.prompt.count) of \(describe(truncation.maxLength)) tokens; "
          + "lower max_prompt_length or raise max_length"
        : "'\(name)' has no token that follows another: the prompt is empty and the completion a single token"
      return .failure(DataDefect(wasCut ? .emptyAfterTruncation : .emptyCompletion, at: location, reason))
    }
    if wasCut && isSame(chosen, rejected) {
      return .failure(
        DataDefect(
          .identicalAfterTruncation, at: location,
          "'chosen' and 'rejected' (\(lengths.chosen) and \(lengths.rejected) tokens) are the same once cut to "
            + "\(describe(truncation.maxLength)) tokens; raise max_length"))
    }
    let pair = TokenizedPair(
      chosen: chosen.prompt + chosen.completion, rejected: rejected.prompt + rejected.completion,
      chosenPromptLength: chosen.prompt.count, rejectedPromptLength: rejected.prompt.count)
    return .success(
      Output(
        pair: pair, promptIsEmpty: text.prompt.isEmpty, promptWasTruncated: cuts.prompt,
        completionWasTruncated: cuts.completion))
  }

  /// The whole text's tokens, cut where the prompt's own tokens end; one earlier when the boundary was merged into
  /// another token.
  private func split(_ whole: [Int32], prompt: [Int32]) -> PromptAndCompletion {
    var length = prompt.count
    if !whole.starts(with: prompt) {
      // Where the whole text is fewer tokens than its prompt TRL stops; here the last token is the completion.
      length = max(min(length, whole.count) - 1, 0)
    }
    return PromptAndCompletion(prompt: Array(whole[..<length]), completion: Array(whole[length...]))
  }

  private func addSpecialTokens(_ sequence: inout PromptAndCompletion) {
    if let bos = encoding.bosTokenID, sequence.prompt.first != bos { sequence.prompt.insert(bos, at: 0) }
    if let eos = encoding.eosTokenID, sequence.completion.last != eos { sequence.completion.append(eos) }
  }

  /// Whether a completion token has a token before it: only those have a log-probability.
  private func hasPrediction(_ sequence: PromptAndCompletion) -> Bool {
    sequence.completion.count > (sequence.prompt.isEmpty ? 1 : 0)
  }

  private func isSame(_ a: PromptAndCompletion, _ b: PromptAndCompletion) -> Bool {
    a.count == b.count && a.prompt + a.completion == b.prompt + b.completion
  }

  private func describe(_ limit: Int?) -> String { limit.map(String.init) ?? "unlimited" }
}
