import Collectives
import Decoder
import Foundation
import JSON
import Kernels
import Tokenization

/// `orpo-dist generate`: one reply, streamed to standard output as it comes. Runs without MPI.
package enum GenerationRun {
  package struct Settings: Sendable {
    package var model: String
    package var prompt: String
    package var maxNewTokens: Int
    package var temperature: Float
    package var topP: Float
    package var seed: UInt64
    package var raw: Bool
    package var threads: Int?

    package init(
      model: String, prompt: String, maxNewTokens: Int, temperature: Float, topP: Float, seed: UInt64, raw: Bool,
      threads: Int?
    ) {
      self.model = model
      self.prompt = prompt
      self.maxNewTokens = maxNewTokens
      self.temperature = temperature
      self.topP = topP
      self.seed = seed
      self.raw = raw
      self.threads = threads
    }
  }

  package static func run(_ settings: Settings) throws {
    guard !settings.prompt.isEmpty else {
      throw ModelSourceError("the prompt is empty; --prompt takes the text to reply to")
    }
    let source = try ModelSource(path: settings.model)
    let prompt = try promptTokens(settings, source.tokenizer)
    guard !prompt.isEmpty else {
      throw ModelSourceError("the prompt makes no token; --prompt takes the text to reply to")
    }
    let pool = ThreadPool(threads: settings.threads ?? max(1, ProcessInfo.processInfo.activeProcessorCount))
    defer { pool.stop() }
    let decoder = try Decoder(source.configuration, pool: pool)
    try decoder.load(from: source.tensors)
    try stream(prompt, settings, decoder, source)
  }

  private static func promptTokens(_ settings: Settings, _ tokenizer: Tokenizer) throws -> [Int32] {
    if settings.raw { return try tokenizer.encode(settings.prompt, addSpecialTokens: true) }
    guard let template = tokenizer.chatTemplate else {
      throw ModelSourceError("\(settings.model) has no chat template; use --raw to continue the prompt as it is")
    }
    let renderer = try ChatRenderer.start()
    defer { renderer.stop() }
    let text: String
    do {
      text = try renderer.render(
        template: template, messages: [["role": "user", "content": .string(settings.prompt)]],
        addGenerationPrompt: true, variables: tokenizer.templateVariables)
    } catch let error as ChatTemplateError { throw ModelSourceError("\(tokenizer.chatTemplateOrigin): \(error)") }
    // The template has written what special tokens there are.
    return try tokenizer.encode(text)
  }

  private static func stream(_ prompt: [Int32], _ settings: Settings, _ decoder: Decoder, _ source: ModelSource) throws
  {
    let room = decoder.configuration.maxPositionEmbeddings - prompt.count
    guard room > 0 else {
      throw ModelSourceError(
        "the prompt has \(prompt.count) tokens; the model reads at most \(decoder.configuration.maxPositionEmbeddings)")
    }
    let limit = min(settings.maxNewTokens, room)
    let session = DecodingSession(decoder, capacity: prompt.count + limit)
    var sampler = TokenSampler(temperature: settings.temperature, topP: settings.topP, seed: settings.seed)
    var text = source.tokenizer.makeStreamDecoder(skipSpecialTokens: true)
    var next = sampler.next(session.feed(prompt))
    // A model's words are no commands for the terminal.
    let isTerminal = isatty(STDOUT_FILENO) == 1
    for produced in 1...limit {
      if source.endTokens.contains(next) { break }
      let new = text.append(next)
      FileHandle.standardOutput.tryWrite(isTerminal ? PlainText.printable(new) : new)
      if produced < limit { next = sampler.next(session.feed([next])) }
    }
    FileHandle.standardOutput.tryWrite((isTerminal ? PlainText.printable(text.finish()) : text.finish()) + "\n")
  }
}

extension ModelSource {
  /// Tokens after which a reply is over: the tokenizer's EOS and those config.json names.
  var endTokens: Set<Int32> {
    let named = configurationJSON["eos_token_id"]
    let ids = (named?.array ?? named.map { [$0] } ?? []).compactMap { $0.integer.flatMap(Int32.init(exactly:)) }
    return Set(ids + [tokenizer.eosTokenID].compactMap(\.self))
  }
}
