internal import JSON

extension Component {
  func normalizer() throws(TokenizerError) -> Normalizer {
    switch try type() {
    case "Sequence":
      var steps: [Normalizer] = []
      for step in try list("normalizers") { steps.append(try step.normalizer()) }
      return .sequence(steps)
    case let form where UnicodeForm(rawValue: form) != nil: return .unicode(try choice("type", form, UnicodeForm.self))
    case "Prepend": return .prepend(Array(try shortString("prepend").utf8))
    case "Replace": return .replace(try pattern("pattern"), with: Array(try shortString("content").utf8))
    case "Lowercase": return .lowercase
    case "Strip":
      return .strip(left: try bool("strip_left", default: true), right: try bool("strip_right", default: true))
    case "StripAccents": return .stripAccents
    case "ByteLevel": return .byteLevel
    case let other: throw unsupported("the normalizer \(other)")
    }
  }

  /// The steps of a pre-tokenizer, sequences flattened.
  func preTokenizers() throws(TokenizerError) -> [PreTokenizer] {
    switch try type() {
    case "Sequence":
      var steps: [PreTokenizer] = []
      for step in try list("pretokenizers") { steps += try step.preTokenizers() }
      return steps
    case "ByteLevel":
      return [
        .byteLevel(
          addPrefixSpace: try bool("add_prefix_space", default: true), useRegex: try bool("use_regex", default: true))
      ]
    case "Split":
      let behavior = try choice("behavior", try string("behavior"), SplitBehavior.self)
      return [.split(try pattern("pattern"), behavior, invert: try bool("invert", default: false))]
    case "Digits": return [.digits(individual: try bool("individual_digits", default: false))]
    case "Metaspace":
      let prepend = try prependScheme()
      let replacement = try metaspace()
      return [.metaspace(replacement: replacement, prepend: prepend, split: try bool("split", default: true))]
    case "Whitespace": return [.whitespace]
    case "WhitespaceSplit": return [.whitespaceSplit]
    case "Punctuation":
      return [.punctuation(try choice("behavior", try optionalString("behavior") ?? "Isolated", SplitBehavior.self))]
    case let other: throw unsupported("the pre-tokenizer \(other)")
    }
  }

  /// `prepend_scheme`, or the older `add_prefix_space`.
  private func prependScheme() throws(TokenizerError) -> PreTokenizer.PrependScheme {
    if let scheme = try optionalString("prepend_scheme") {
      return try choice("prepend_scheme", scheme, PreTokenizer.PrependScheme.self)
    }
    return try bool("add_prefix_space", default: true) ? .always : .never
  }

  /// The steps of a decoder, sequences flattened.
  func decoders() throws(TokenizerError) -> [TokenDecoder] {
    switch try type() {
    case "Sequence":
      var steps: [TokenDecoder] = []
      for step in try list("decoders") { steps += try step.decoders() }
      return steps
    case "ByteLevel": return [.byteLevel]
    case "Replace": return [.replace(try pattern("pattern"), with: Array(try shortString("content").utf8))]
    case "ByteFallback": return [.byteFallback]
    case "Fuse": return [.fuse]
    case "Strip":
      return [
        .strip(content: Array(try shortString("content").utf8), start: try count("start"), stop: try count("stop"))
      ]
    case "Metaspace":
      let replacement = try metaspace()
      return [.metaspace(replacement: replacement, stripsFirst: try prependScheme() != .never)]
    case let other: throw unsupported("the decoder \(other)")
    }
  }

  func postProcessor() throws(TokenizerError) -> PostProcessor {
    switch try type() {
    case "Sequence":
      var all = PostProcessor()
      for step in try list("processors") { all.templates += try step.postProcessor().templates }
      return all
    case "ByteLevel": return PostProcessor()  // changes offsets only
    case "TemplateProcessing":
      var template: [PostProcessor.Part] = []
      let parts = try list("single")
      guard parts.count <= Self.mostSteps else {
        throw malformed("single", "has \(parts.count) parts; at most \(Self.mostSteps) are accepted")
      }
      for part in parts { template.append(try part.templatePart(specialTokens: value["special_tokens"])) }
      return PostProcessor(templates: [template])
    case "BertProcessing", "RobertaProcessing":
      return PostProcessor(templates: [[.special([try tokenPair("cls")]), .text, .special([try tokenPair("sep")])]])
    case let other: throw unsupported("the post-processor \(other)")
    }
  }

  /// `{"Sequence": {"id": "A"}}` or `{"SpecialToken": {"id": NAME}}`.
  private func templatePart(specialTokens: JSONValue?) throws(TokenizerError) -> PostProcessor.Part {
    if let sequence = value["Sequence"] {
      guard sequence["id"]?.isText("A") ?? false else {
        throw malformed("Sequence.id", "must be \"A\" in a template for one text")
      }
      return .text
    }
    guard let name = value["SpecialToken"]?["id"]?.string else {
      throw malformed("", "must hold Sequence or SpecialToken")
    }
    guard let ids = specialTokens?[name]?["ids"]?.array else {
      throw malformed("SpecialToken.id", "\"\(name)\" is not among special_tokens")
    }
    var special: [Int32] = []
    for id in ids {
      guard let id = id.integer.flatMap({ Int32(exactly: $0) }) else {
        throw malformed("SpecialToken.id", "the ids of \"\(name)\" must be whole numbers")
      }
      special.append(id)
    }
    return .special(special)
  }

  /// `["</s>", 2]`
  private func tokenPair(_ name: String) throws(TokenizerError) -> Int32 {
    guard let pair = value[name]?.array, pair.count == 2, let id = pair[1].integer.flatMap({ Int32(exactly: $0) })
    else {
      throw malformed(name, "must be a token and its id")
    }
    return id
  }
}
