internal import JSON

extension Tokenizer {
  /// A built-in vocabulary that needs no file: the 256 bytes in byte order, then `<|bos|>` 256, `<|eos|>` 257,
  /// `<|pad|>` 258. Any text comes back as it was. The chat template writes each message as
  /// `<|bos|>role\ncontent<|eos|>\n`.
  package static func bytes() throws -> Tokenizer {
    var vocabulary = JSONObject()
    for (byte, scalar) in ByteAlphabet.scalars.enumerated() {
      vocabulary.members.append((String(scalar), .integer(byte)))
    }
    let special = ["<|bos|>", "<|eos|>", "<|pad|>"]
    let names = ["bos_token", "eos_token", "pad_token"]
    let byteLevel = TokenizerDocument.byteLevel(useRegex: true)
    let document = TokenizerDocument(
      addedTokens: special.enumerated().map { .init(id: 256 + $0, content: $1, special: true) }, normalizer: .null,
      preTokenizer: byteLevel, postProcessor: byteLevel, decoder: byteLevel,
      model: TokenizerDocument.bpe(
        vocabulary: vocabulary, merges: [], unknownToken: nil, byteFallback: false, ignoreMerges: false))
    let specialTokens = zip(names, special).map { (name: $0, token: $1) }
    return try Tokenizer(
      definition: document.value, file: "the built-in byte vocabulary", specialTokens: specialTokens,
      chatTemplate: byteChatTemplate, source: .document(document))
  }

  private static let byteChatTemplate = #"""
    {%- for message in messages -%}
    {{- bos_token + message['role'] + '\n' + message['content'] + eos_token + '\n' -}}
    {%- endfor -%}
    {%- if add_generation_prompt -%}{{- bos_token + 'assistant\n' -}}{%- endif -%}
    """#
}
