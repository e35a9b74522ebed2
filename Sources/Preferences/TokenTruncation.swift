/// Which end an over-long prompt keeps.
package enum TruncationMode: String, Sendable, CaseIterable {
  case keepEnd = "keep_end"
  case keepStart = "keep_start"
}

/// Limits in tokens, BOS and EOS included. `nil` is no limit.
package struct TokenTruncation: Sendable, Equatable {
  package var maxLength: Int?
  /// Applies only to pairs that do not fit `maxLength`.
  package var maxPromptLength: Int?
  package var mode: TruncationMode

  package init(maxLength: Int? = 1024, maxPromptLength: Int? = 512, mode: TruncationMode = .keepEnd) {
    self.maxLength = maxLength
    self.maxPromptLength = maxPromptLength
    self.mode = mode
  }

  func validate() throws(PreferenceFileError) {
    for (key, value, least) in [("max_length", maxLength, 2), ("max_prompt_length", maxPromptLength, 1)] {
      if let value, value < least { throw .invalidOption("\(key) is \(value), expected at least \(least)") }
    }
  }
}

/// One sequence while it is being built.
struct PromptAndCompletion {
  var prompt: [Int32]
  var completion: [Int32]

  var count: Int { prompt.count + completion.count }
}

extension TokenTruncation {
  /// Cuts a pair to `maxLength`: first the prompts, both from the same side by the same rule so that they go on sharing
  /// their tokens, then each completion on its own.
  func apply(
    chosen: inout PromptAndCompletion, rejected: inout PromptAndCompletion, bosTokenID: Int32?
  ) -> (prompt: Bool, completion: Bool) {
    guard let maxLength, max(chosen.count, rejected.count) > maxLength else { return (false, false) }
    var cutsPrompt = false
    let longest = max(chosen.prompt.count, rejected.prompt.count)
    if let maxPromptLength, longest > maxPromptLength {
      cutsPrompt = true
      let excess = longest - maxPromptLength
      chosen.prompt = cut(chosen.prompt, to: maxPromptLength, excess: excess, bosTokenID: bosTokenID)
      rejected.prompt = cut(rejected.prompt, to: maxPromptLength, excess: excess, bosTokenID: bosTokenID)
    }
    let cutsCompletion = max(chosen.count, rejected.count) > maxLength
    chosen.completion = Array(chosen.completion.prefix(max(maxLength - chosen.prompt.count, 0)))
    rejected.completion = Array(rejected.completion.prefix(max(maxLength - rejected.prompt.count, 0)))
    return (cutsPrompt, cutsCompletion)
  }

  private func cut(_ prompt: [Int32], to limit: Int, excess: Int, bosTokenID: Int32?) -> [Int32] {
    switch mode {
    case .keepStart: Array(prompt.prefix(limit))
    case .keepEnd:
      if let bosTokenID, prompt.first == bosTokenID {
        [bosTokenID] + prompt.dropFirst().dropFirst(excess)
      } else {
        Array(prompt.dropFirst(excess))
      }
    }
  }
}
