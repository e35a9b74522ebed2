/// Byte-pair encoding (Sennrich et al. 2016) as Hugging Face's `BPE` model: vocabulary, ranked merges and what to do
/// with characters the vocabulary lacks.
struct BPEModel: Sendable {
  /// UTF-8 of each token, by id; nil for ids the model does not use.
  let tokens: [[UInt8]?]
  let vocabulary: ByteTable
  let merges: MergeTable
  let unknownToken: [UInt8]?
  let unknownID: Int32?
  let fuseUnknown: Bool
  let ignoreMerges: Bool
  let continuingPrefix: [UInt8]
  let endSuffix: [UInt8]
  /// The ids of `<0x00>` ... `<0xFF>` when the model falls back to bytes; -1 where the vocabulary lacks one.
  let byteTokens: [Int32]?
  /// For text mapped by the ByteLevel pre-tokenizer: the id of each byte's character, -1 when missing.
  let byteLevelIDs: [Int32]
  /// Raw bytes of byte-level tokens; only for `ignoreMerges`, which looks whole words up.
  let rawVocabulary: ByteTable?
  /// Where text may be cut without changing the ids; nil when nowhere.
  let boundary: Boundary?

  /// What the model is given: text, or the bytes behind text that ByteLevel would map to its alphabet.
  enum Alphabet { case text, rawBytes }

  /// Appends the ids of one word.
  func encode(_ word: Bytes, as alphabet: Alphabet, scratch: inout BPEScratch, to output: inout [Int32])
    throws(TokenizerError)
  {
    if word.isEmpty { return }
    if ignoreMerges {
      if let id = alphabet == .rawBytes ? rawVocabulary?[word] : vocabulary[word] {
        output.append(id)
        return
      }
    }
    scratch.symbols.removeAll(keepingCapacity: true)
    switch alphabet {
    case .rawBytes: try appendByteSymbols(word, to: &scratch.symbols)
    case .text: try appendCharacterSymbols(word, to: &scratch.symbols)
    }
    merge(&scratch)
    output.append(contentsOf: scratch.symbols)
  }

  private func appendByteSymbols(_ word: Bytes, to symbols: inout [Int32]) throws(TokenizerError) {
    var pending = false
    for byte in word {
      let id = byteLevelIDs[Int(byte)]
      if id >= 0 {
        if pending, let unknownID { symbols.append(unknownID) }
        pending = false
        symbols.append(id)
      } else {
        try appendMissing(ByteAlphabet.encoded[Int(byte)], pending: &pending, to: &symbols)
      }
    }
    if pending, let unknownID { symbols.append(unknownID) }
  }

  private func appendCharacterSymbols(_ word: Bytes, to symbols: inout [Int32]) throws(TokenizerError) {
    let plain = continuingPrefix.isEmpty && endSuffix.isEmpty
    var pending = false
    var index = 0
    while index < word.count {
      let end = index + utf8Length(word[index])
      let character = word[bytes: index..<end]
      var affixed: [UInt8]?
      if !plain {
        affixed = (index > 0 ? continuingPrefix : []) + character + (end == word.count ? endSuffix : [])
      }
      if let id = affixed.map({ vocabulary[$0] }) ?? vocabulary[character] {
        if pending, let unknownID { symbols.append(unknownID) }
        pending = false
        symbols.append(id)
      } else {
        try appendMissing(affixed ?? Array(character), pending: &pending, to: &symbols)
      }
      index = end
    }
    if pending, let unknownID { symbols.append(unknownID) }
  }

  /// A character that is not in the vocabulary: its bytes' tokens if all exist, else the unknown token, which waits (as
  /// in Hugging Face's loop) for the next known character so that neighbours can fuse.
  private func appendMissing(_ piece: [UInt8], pending: inout Bool, to symbols: inout [Int32]) throws(TokenizerError) {
    if let byteTokens, piece.allSatisfy({ byteTokens[Int($0)] >= 0 }) {
      symbols.append(contentsOf: piece.lazy.map { byteTokens[Int($0)] })
      return
    }
    guard unknownToken != nil else { return }
    guard let unknownID else { throw .unknownToken(piece: String(decoding: piece, as: UTF8.self)) }
    if pending, !fuseUnknown { symbols.append(unknownID) }
    pending = true
  }
}

/// Working memory of `BPEModel.encode`, kept between words.
struct BPEScratch {
  var symbols: [Int32] = []
  var ranks: [UInt32] = []
  var joined: [Int32] = []
  var previous: [Int32] = []
  var next: [Int32] = []
  var queue = MergeQueue()
}
