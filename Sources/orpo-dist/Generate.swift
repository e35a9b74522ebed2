import ArgumentParser
import Tokenization
import Training

struct Generate: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Generate a reply with a model folder or a GGUF file, streaming to the terminal.")

  @Option(name: .long, help: ArgumentHelp("Hugging Face folder or GGUF file.", valueName: "dir-or-gguf"))
  var model: String
  @Option(name: .long, help: "What to reply to; the model's chat template is applied.")
  var prompt: String
  @Option(name: .long, help: "The most tokens to generate.")
  var maxNewTokens = 256
  @Option(name: .long, help: "0 always takes the likeliest token; higher is more varied.")
  var temperature: Float = 0
  @Option(name: .long, help: "Sample among the likeliest tokens that hold this share of probability.")
  var topP: Float = 1
  @Option(name: .long, help: "Of the random numbers.")
  var seed: UInt64 = 0
  @Option(name: .long, help: "Threads; all cores this process may use when not given.")
  var threads: Int?
  @Flag(name: .long, help: "Continue the prompt as it is, without the chat template.")
  var raw = false

  func validate() throws {
    if maxNewTokens < 1 { throw ValidationError("--max-new-tokens is \(maxNewTokens); expected at least 1") }
    if !(temperature >= 0) || temperature.isInfinite {
      throw ValidationError("--temperature is \(temperature); expected a number of at least 0")
    }
    if !(topP > 0 && topP <= 1) { throw ValidationError("--top-p is \(topP); expected more than 0 and at most 1") }
    if let threads, threads < 1 { throw ValidationError("--threads is \(threads); expected at least 1") }
  }

  mutating func run() throws {
    let settings = GenerationRun.Settings(
      model: model, prompt: prompt, maxNewTokens: maxNewTokens, temperature: temperature, topP: topP, seed: seed, raw: raw,
      threads: threads)
    try GenerationRun.run(settings)
  }
}
