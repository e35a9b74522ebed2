/// A value of GGUF metadata, with the type it has in the file.
package enum GGUFValue: Sendable, Equatable {
  case uint8(UInt8)
  case int8(Int8)
  case uint16(UInt16)
  case int16(Int16)
  case uint32(UInt32)
  case int32(Int32)
  case uint64(UInt64)
  case int64(Int64)
  case float32(Float)
  case float64(Double)
  case bool(Bool)
  /// The bytes as they are: vocabularies hold text that is not valid UTF-8.
  case string([UInt8])
  case array(GGUFArray)
}

/// An array of GGUF metadata: all elements have one type.
package enum GGUFArray: Sendable, Equatable {
  case uint8([UInt8])
  case int8([Int8])
  case uint16([UInt16])
  case int16([Int16])
  case uint32([UInt32])
  case int32([Int32])
  case uint64([UInt64])
  case int64([Int64])
  case float32([Float])
  case float64([Double])
  case bool([Bool])
  case string([[UInt8]])
  case array([GGUFArray])
}

package struct GGUFKeyValue: Sendable, Equatable {
  package var key: String
  package var value: GGUFValue

  package init(key: String, value: GGUFValue) {
    self.key = key
    self.value = value
  }
}

extension GGUFValue {
  /// Any of the integer types, when it fits.
  package var integer: Int? {
    switch self {
    case .uint8(let value): Int(value)
    case .int8(let value): Int(value)
    case .uint16(let value): Int(value)
    case .int16(let value): Int(value)
    case .uint32(let value): Int(value)
    case .int32(let value): Int(value)
    case .uint64(let value): Int(exactly: value)
    case .int64(let value): Int(exactly: value)
    default: nil
    }
  }

  /// Any number.
  package var double: Double? {
    switch self {
    case .float32(let value): Double(value)
    case .float64(let value): value
    default: integer.map(Double.init)
    }
  }

  package var bool: Bool? { if case .bool(let value) = self { value } else { nil } }
  package var bytes: [UInt8]? { if case .string(let value) = self { value } else { nil } }

  /// A string, when it is valid UTF-8.
  package var string: String? { bytes.flatMap { String(validating: $0, as: UTF8.self) } }

  package var strings: [[UInt8]]? {
    if case .array(.string(let value)) = self { value } else { nil }
  }

  /// An array of any of the integer types, when all elements fit.
  package var integers: [Int]? {
    guard case .array(let array) = self else { return nil }
    switch array {
    case .uint8(let values): return values.map(Int.init)
    case .int8(let values): return values.map(Int.init)
    case .uint16(let values): return values.map(Int.init)
    case .int16(let values): return values.map(Int.init)
    case .uint32(let values): return values.map(Int.init)
    case .int32(let values): return values.map(Int.init)
    case .uint64(let values):
      let converted = values.compactMap(Int.init(exactly:))
      return converted.count == values.count ? converted : nil
    case .int64(let values): return values.map(Int.init)
    default: return nil
    }
  }

  package var floats: [Float]? {
    switch self {
    case .array(.float32(let values)): values
    case .array(.float64(let values)): values.map { Float($0) }
    default: nil
    }
  }

  package var bools: [Bool]? { if case .array(.bool(let values)) = self { values } else { nil } }

  /// What error messages call this value's type.
  package var typeName: String {
    switch self {
    case .uint8: "uint8"
    case .int8: "int8"
    case .uint16: "uint16"
    case .int16: "int16"
    case .uint32: "uint32"
    case .int32: "int32"
    case .uint64: "uint64"
    case .int64: "int64"
    case .float32: "float32"
    case .float64: "float64"
    case .bool: "bool"
    case .string: "string"
    case .array: "array"
    }
  }
}
