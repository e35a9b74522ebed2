/// One GGUF file, version 2 or 3: typed metadata and tensors, which may be quantised.
///
/// Everything the head claims is checked when the file is opened. Names are GGUF's own ("blk.0.attn_q.weight").
package struct GGUFFile: TensorSource {
  /// In file order.
  package let metadata: [GGUFKeyValue]
  /// In the order of the file's list. Shapes are outermost first, as in Hugging Face's files (GGUF itself lists the
  /// innermost first).
  package let tensors: [TensorInfo]
  package let version: Int
  private let file: ReadableFile
  /// Where each tensor's bytes begin in the file.
  private let offsets: [Int]
  private let index: NameIndex
  private let keys: NameIndex

  package var path: String { file.path }

  /// - Throws: `FileError`; `GGUFError` naming the first defect.
  package init(path: String) throws {
    file = try ReadableFile(path: path)
    var cursor = GGUFCursor(file)
    let head = try GGUFHead(&cursor)
    metadata = head.metadata
    keys = head.keys
    version = head.version
    tensors = head.tensors
    index = head.index
    offsets = try head.dataOffsets(path: path, size: file.size, headEnd: cursor.position)
  }

  package func info(_ name: String) -> TensorInfo? { index[name].map { tensors[$0] } }

  package func read(_ name: String, into values: UnsafeMutableBufferPointer<Float>) throws {
    guard let position = index[name] else { throw TensorReadError.noSuchTensor(path: path, tensor: name) }
    try TensorReader.read(tensors[position], from: file, at: offsets[position], into: values)
  }

  /// The metadata value of this key.
  package subscript(key: String) -> GGUFValue? { keys[key].map { metadata[$0].value } }

  /// Undoes the reordering of rows that llama.cpp's converter applies to `attn_q` and `attn_k` of Llama models.
  ///
  /// Its rotary embedding turns neighbouring rows (2j, 2j+1) of a head, Hugging Face's turns rows (j, j + headDim/2).
  /// Within each head, row 2j + i of the file is row i headDim/2 + j here. Files whose `general.architecture` is
  /// `llama` (Mistral included) need it; biases too, with `columns` 1.
  /// - Precondition: `values` holds `heads * headDim` rows of `columns`, and `headDim` is even.
  package static func undoRotaryPermutation(
    _ values: UnsafeMutableBufferPointer<Float>, heads: Int, headDim: Int, columns: Int
  ) {
    precondition(heads >= 0 && headDim >= 0 && columns >= 0 && headDim % 2 == 0, "headDim must be even")
    precondition(values.count == heads * headDim * columns, "values do not hold heads x headDim rows of \(columns)")
    guard let base = values.baseAddress else { return }
    let perHead = headDim * columns
    withUnsafeTemporaryAllocation(of: Float.self, capacity: perHead) { copy in
      guard let source = copy.baseAddress else { return }
      for head in 0..<heads {
        let rows = base + head * perHead
        source.update(from: rows, count: perHead)
        for row in 0..<headDim {
          (rows + (row % 2 * (headDim / 2) + row / 2) * columns).update(from: source + row * columns, count: columns)
        }
      }
    }
  }
}
