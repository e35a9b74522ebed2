internal import JSON

/// How text is split into words before byte-level BPE, by the names GGUF files use (`tokenizer.ggml.pre`). Each gives
/// the steps of the models' own tokenizer.json.
enum GGUFPreTokenizer {
  case gpt2
  case smollm
  case llama3
  case qwen2
  case qwen35
  case tekken
  case `default`

  /// Nil for a name that is not known here.
  init?(name: String) {
    switch name.possibleName {
    case "gpt-2", "phi-2", "olmo": self = .gpt2
    case "smollm", "starcoder", "refact", "codeshell", "command-r": self = .smollm
    case "llama-bpe", "llama3", "llama-v3", "falcon3": self = .llama3
    case "qwen2", "deepseek-r1-qwen": self = .qwen2
    case "qwen35": self = .qwen35
    case "tekken": self = .tekken
    case "default": self = .default
    default: return nil
    }
  }

  static let known = [
    "gpt-2", "phi-2", "olmo", "smollm", "starcoder", "refact", "codeshell", "command-r", "llama-bpe", "llama3",
    "llama-v3",
    "falcon3", "qwen2", "deepseek-r1-qwen", "qwen35", "tekken", "default",
  ]

  var preTokenizer: JSONValue {
    let steps: [JSONValue] =
      switch self {
      case .gpt2: [TokenizerDocument.byteLevel(useRegex: true)]
      case .smollm: [["type": "Digits", "individual_digits": true], TokenizerDocument.byteLevel(useRegex: true)]
      case .llama3: Self.split(WordPattern.llama3Expression(digits: 3))
      case .qwen2: Self.split(WordPattern.llama3Expression(digits: 1))
      case .qwen35: Self.split(Self.qwen35Expression)
      case .tekken: Self.split(Self.tekkenExpression)
      case .default:
        Self.split(#"[\p{P}\$\+<=>\^~\|]+"#, WordPattern.gpt2Expression, #"\p{N}+"#, "[0-9][0-9][0-9]")
      }
    return steps.count == 1 ? steps[0] : ["type": "Sequence", "pretokenizers": .array(steps)]
  }

  var normalizer: JSONValue {
    switch self {
    case .qwen2, .qwen35: ["type": "NFC"]
    default: .null
    }
  }

  /// Words that are in the vocabulary are taken whole.
  var ignoresMerges: Bool { self == .llama3 || self == .tekken }

  /// Whether texts begin with `bos` when the file does not say.
  var addsBOS: Bool { self == .llama3 || self == .tekken }

  private static func split(_ expressions: String...) -> [JSONValue] {
    expressions.map { TokenizerDocument.split($0) } + [TokenizerDocument.byteLevel(useRegex: false)]
  }

  /// Llama 3's pattern with marks counted as letters and single digits.
  private static let qwen35Expression =
    #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"#
    + #"|\s*[\r\n]+|\s+(?!\S)|\s+"#

  /// Splits words where lower case turns to upper.
  private static let tekkenExpression: String = {
    let upper = #"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"#
    let lower = #"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"#
    let lead = #"[^\r\n\p{L}\p{N}]?"#
    return "\(lead)\(upper)*\(lower)+|\(lead)\(upper)+\(lower)*"
      + #"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
  }()
}
