internal import JSON

extension Component {
  /// The `model` of tokenizer.json.
  func bpeModel() throws(TokenizerError) -> BPEModel {
    // Old files leave the type out; only BPE has merges.
    let type = try optionalString("type") ?? (value["merges"] == nil ? "without a type" : "BPE")
    guard type.isText("BPE") else { throw unsupported("the model \(type)") }
    if let dropout = value["dropout"], !dropout.isNull, dropout.double != 0 {
      throw unsupported("dropout \(dropout.serialized()) (merges left out at random)")
    }
    guard let members = value["vocab"]?.object?.members else {
      throw malformed("vocab", "must be an object of tokens and ids")
    }
    var entries: [(key: [UInt8], id: Int32)] = []
    entries.reserveCapacity(members.count)
    var tokens = [[UInt8]?](repeating: nil, count: members.count)
    for (token, id) in members {
      // Gaps are allowed; absurd ids are not.
      guard let id = id.integer, id >= 0, id < min(16 * members.count + 1_000_000, Self.mostTokens) else {
        throw malformed("vocab", "the id of \"\(token)\" is not a plausible whole number")
      }
      let bytes = Array(token.utf8)
      while id >= tokens.count { tokens.append(nil) }
      tokens[id] = bytes
      entries.append((bytes, Int32(id)))
    }
    let vocabulary = ByteTable(entries)
    let continuingPrefix = try affix("continuing_subword_prefix")
    let merges = try self.merges(vocabulary, continuingPrefix: continuingPrefix)
    let unknownToken = try optionalString("unk_token").map { Array($0.utf8) }
    let ignoreMerges = try bool("ignore_merges", default: false)
    let byteFallback = try bool("byte_fallback", default: false)
    let endSuffix = try affix("end_of_word_suffix")
    // Without an unknown token characters vanish, and what is left on both sides of a cut could have merged.
    let cuttable = !ignoreMerges && continuingPrefix.isEmpty && endSuffix.isEmpty && unknownToken != nil
    return BPEModel(
      tokens: tokens, vocabulary: vocabulary, merges: MergeTable(merges), unknownToken: unknownToken,
      unknownID: unknownToken.flatMap { vocabulary[$0] }, fuseUnknown: try bool("fuse_unk", default: false),
      ignoreMerges: ignoreMerges, continuingPrefix: continuingPrefix, endSuffix: endSuffix,
      byteTokens: byteFallback ? (0...255).map { vocabulary[Self.byteToken($0)] ?? -1 } : nil,
      byteLevelIDs: (0...255).map { vocabulary[ByteAlphabet.encoded[$0]] ?? -1 },
      rawVocabulary: ignoreMerges
        ? ByteTable(entries.compactMap { key, id in ByteAlphabet.decode(key).map { ($0, id) } }) : nil,
      boundary: cuttable ? .init(mark: Array("▁".utf8), vocabulary: vocabulary, tokens: tokens, merges: merges) : nil)
  }

  private func affix(_ name: String) throws(TokenizerError) -> [UInt8] {
    let affix = Array((try optionalString(name) ?? "").utf8)
    guard affix.count <= 64 else { throw malformed(name, "has \(affix.count) bytes; at most 64 are accepted") }
    return affix
  }

  /// `<0x0A>` for 10.
  static func byteToken(_ byte: Int) -> [UInt8] {
    let digits = String(byte, radix: 16, uppercase: true)
    return Array(("<0x" + (digits.count == 1 ? "0" : "") + digits + ">").utf8)
  }

  /// Merges in both spellings, `"a b"` and `["a", "b"]`, as ids.
  private func merges(
    _ vocabulary: ByteTable, continuingPrefix: [UInt8]
  ) throws(TokenizerError) -> [(left: Int32, right: Int32, id: Int32)] {
    guard let list = value["merges"]?.array else { throw malformed("merges", "must be a list") }
    var merges: [(left: Int32, right: Int32, id: Int32)] = []
    merges.reserveCapacity(list.count)
    for (index, merge) in list.enumerated() {
      let left: [UInt8]
      let right: [UInt8]
      switch merge {
      case .array(let pair) where pair.count == 2:
        guard let first = pair[0].string, let second = pair[1].string else {
          throw malformed("merges[\(index)]", "must be two strings")
        }
        (left, right) = (Array(first.utf8), Array(second.utf8))
      case .string(let text):
        let parts = text.utf8.split(separator: 0x20, omittingEmptySubsequences: false)
        guard parts.count == 2 else { throw malformed("merges[\(index)]", "must be two tokens with one space between") }
        (left, right) = (Array(parts[0]), Array(parts[1]))
      default: throw malformed("merges[\(index)]", "must be two tokens")
      }
      let joined = left + right.dropFirst(continuingPrefix.count)
      guard let leftID = vocabulary[left], let rightID = vocabulary[right], let id = vocabulary[joined] else {
        let names = [left, right, joined].map { String(decoding: $0, as: UTF8.self) }
        let missing = zip([left, right, joined], names).first { vocabulary[$0.0] == nil }?.1 ?? ""
        throw malformed(
          "merges[\(index)]", "joins \"\(names[0])\" and \"\(names[1])\", but \"\(missing)\" is not in the vocabulary")
      }
      merges.append((leftID, rightID, id))
    }
    return merges
  }
}
