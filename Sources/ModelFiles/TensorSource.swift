/// What a model file says about one tensor.
package struct TensorInfo: Sendable, Equatable {
  package var name: String
  package var dtype: TensorDType
  /// Outermost dimension first, as Hugging Face writes it; empty for a scalar.
  package var shape: [Int]

  /// - Precondition: the product of `shape` fits in `Int`; files are checked for that before a `TensorInfo` is made.
  package init(name: String, dtype: TensorDType, shape: [Int]) {
    self.name = name
    self.dtype = dtype
    self.shape = shape
  }

  /// Number of values.
  package var count: Int { shape.reduce(1, *) }
}

/// A file or folder that holds named tensors.
package protocol TensorSource: Sendable {
  /// All tensors, in file order.
  var tensors: [TensorInfo] { get }

  /// Names are compared byte by byte.
  func info(_ name: String) -> TensorInfo?

  /// Writes the tensor's values, row by row, converted or dequantised to fp32.
  /// - Throws: `TensorReadError` when there is no such tensor, when `values.count` is not its number of values, or when
  ///   its dtype cannot be converted; `FileError` when the file cannot be read.
  func read(_ name: String, into values: UnsafeMutableBufferPointer<Float>) throws
}

/// Why a tensor could not be read.
package enum TensorReadError: Error, CustomStringConvertible, Equatable {
  case noSuchTensor(path: String, tensor: String)
  case wrongCount(path: String, tensor: String, expected: Int, found: Int)
  case unsupportedDType(path: String, tensor: String, dtype: TensorDType)
  case notF32(path: String, tensor: String, dtype: TensorDType)

  package var description: String {
    switch self {
    case .noSuchTensor(let path, let tensor): "\(path): there is no tensor '\(tensor)'"
    case .wrongCount(let path, let tensor, let expected, let found):
      "\(path): tensor '\(tensor)' holds \(expected) values, but room was given for \(found)"
    case .unsupportedDType(let path, let tensor, let dtype):
      "\(path): tensor '\(tensor)' is stored as \(dtype.rawValue), which cannot be converted to fp32 here; readable are "
        + TensorDType.allCases.filter(\.isReadable).map(\.rawValue).joined(separator: ", ")
    case .notF32(let path, let tensor, let dtype):
      "\(path): tensor '\(tensor)' is stored as \(dtype.rawValue), F32 was expected"
    }
  }
}

/// The product of the dimensions, or nil when one is negative or the product does not fit in `Int`.
func checkedCount(_ shape: some Sequence<Int>) -> Int? {
  var count = 1
  for dimension in shape {
    let (product, overflow) = count.multipliedReportingOverflow(by: dimension)
    guard dimension >= 0, !overflow else { return nil }
    count = product
  }
  return count
}

/// Positions of tensors by name. Keyed by bytes: as `String` keys, composed and decomposed spellings would be one name.
package struct NameIndex: Sendable {
  private var positions: [[UInt8]: Int] = [:]

  package init() {}

  package subscript(name: String) -> Int? { positions[Array(name.utf8)] }

  /// False when the name is already there.
  package mutating func insert(_ name: String, at position: Int) -> Bool {
    let key = Array(name.utf8)
    guard positions[key] == nil else { return false }
    positions[key] = position
    return true
  }
}
