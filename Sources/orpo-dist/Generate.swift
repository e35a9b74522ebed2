import ArgumentParser
import Tokenization
import Training

struct Generate: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Generate a reply with a model folder or a GGUF file, streaming to the terminal.",
    usage: """
      orpo-dist generate --model DIR_OR_GGUF --prompt TEXT [--max-new-tokens N]
                                [--temperature T] [--top-p P] [--seed S] [--raw]
      """)

  @Option(name: .long, help: ArgumentHelp("Hugging Face folder or GGUF file.", valueName: "dir-or-gguf"))
  var model: String
  @Option(name: .long, help: ArgumentHelp("What to reply to; the model's chat template is applied.", valueName: "text"))
  var prompt: String
  @Option(name: .long, help: ArgumentHelp("The most tokens to generate.", valueName: "n"))
  var maxNewTokens = 256
  @Option(name: .long, help: ArgumentHelp("0 always takes the likeliest token; higher is more varied.", valueName: "t"))
  var temperature: Float = 0
  @Option(
    name: .long,
    help: ArgumentHelp("Sample among the likeliest tokens that hold this share of probability.", valueName: "p"))
  var topP: Float = 1
  @Option(name: .long, help: ArgumentHelp("Of the random numbers.", valueName: "s"))
  var seed: UInt64 = 0
  @Option(name: .long, help: ArgumentHelp("Threads; all cores this process may use when not given.", valueName: "n"))
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
    // One reply, also when somebody starts several ranks.
    guard Launch.isRankZero else { return }
    let settings = GenerationRun.Settings(
      model: model, prompt: prompt, maxNewTokens: maxNewTokens, temperature: temperature, topP: topP, seed: seed,
      raw: raw,
      threads: threads)
    try GenerationRun.run(settings)
  }
}
