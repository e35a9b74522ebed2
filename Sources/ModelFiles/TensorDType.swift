/// How the values of a stored tensor are encoded: the dtypes of safetensors and the block formats of GGUF.
package enum TensorDType: String, Sendable, CaseIterable {
  case f32 = "F32"
  case f16 = "F16"
  case bf16 = "BF16"
  case q8_0 = "Q8_0"
  case q4_0 = "Q4_0"
  case q4_1 = "Q4_1"
  case q5_0 = "Q5_0"
  case q5_1 = "Q5_1"
  case q2_K = "Q2_K"
  case q3_K = "Q3_K"
  case q4_K = "Q4_K"
  case q5_K = "Q5_K"
  case q6_K = "Q6_K"
  // Known by size only: files that contain them open, their tensors cannot be converted.
  case f64 = "F64"
  case c64 = "C64"
  case i64 = "I64"
  case u64 = "U64"
  case i32 = "I32"
  case u32 = "U32"
  case i16 = "I16"
  case u16 = "U16"
  case i8 = "I8"
  case u8 = "U8"
  case bool = "BOOL"
  case f8_e5m2 = "F8_E5M2"
  case f8_e4m3 = "F8_E4M3"
  case f8_e8m0 = "F8_E8M0"
  case f8_e4m3fnuz = "F8_E4M3FNUZ"
  case f8_e5m2fnuz = "F8_E5M2FNUZ"
  case f6_e2m3 = "F6_E2M3"
  case f6_e3m2 = "F6_E3M2"
  case f4 = "F4"
  case q8_1 = "Q8_1"
  case q8_K = "Q8_K"
  case iq2_xxs = "IQ2_XXS"
  case iq2_xs = "IQ2_XS"
  case iq3_xxs = "IQ3_XXS"
  case iq1_s = "IQ1_S"
  case iq4_nl = "IQ4_NL"
  case iq3_s = "IQ3_S"
  case iq2_s = "IQ2_S"
  case iq4_xs = "IQ4_XS"
  case iq1_m = "IQ1_M"
  case tq1_0 = "TQ1_0"
  case tq2_0 = "TQ2_0"
  case mxfp4 = "MXFP4"
  case nvfp4 = "NVFP4"
  case q1_0 = "Q1_0"

  /// The smallest unit that is stored: so many values in so many bytes.
  package var block: (values: Int, bytes: Int) {
    switch self {
    case .f64, .c64, .i64, .u64: (1, 8)
    case .f32, .i32, .u32: (1, 4)
    case .f16, .bf16, .i16, .u16: (1, 2)
    case .i8, .u8, .bool, .f8_e5m2, .f8_e4m3, .f8_e8m0, .f8_e4m3fnuz, .f8_e5m2fnuz: (1, 1)
    case .f6_e2m3, .f6_e3m2: (4, 3)
    case .f4: (2, 1)
    case .q4_0, .iq4_nl: (32, 18)
    case .q4_1: (32, 20)
    case .q5_0: (32, 22)
    case .q5_1: (32, 24)
    case .q8_0: (32, 34)
    case .q8_1: (32, 40)
    case .mxfp4: (32, 17)
    case .nvfp4: (64, 36)
    case .q1_0: (128, 18)
    case .q2_K: (256, 84)
    case .q3_K, .iq3_s: (256, 110)
    case .q4_K: (256, 144)
    case .q5_K: (256, 176)
    case .q6_K: (256, 210)
    case .q8_K: (256, 292)
    case .iq2_xxs, .tq2_0: (256, 66)
    case .iq2_xs: (256, 74)
    case .iq3_xxs: (256, 98)
    case .iq1_s: (256, 50)
    case .iq2_s: (256, 82)
    case .iq4_xs: (256, 136)
    case .iq1_m: (256, 56)
    case .tq1_0: (256, 54)
    }
  }

  /// Whether `TensorSource.read` converts it to fp32.
  package var isReadable: Bool {
    switch self {
    case .f32, .f16, .bf16, .q8_0, .q4_0, .q4_1, .q5_0, .q5_1, .q2_K, .q3_K, .q4_K, .q5_K, .q6_K: true
    default: false
    }
  }

  /// The type's number in GGUF files.
  init?(ggufType: UInt32) {
    switch ggufType {
    case 0: self = .f32
    case 1: self = .f16
    case 2: self = .q4_0
    case 3: self = .q4_1
    case 6: self = .q5_0
    case 7: self = .q5_1
    case 8: self = .q8_0
    case 9: self = .q8_1
    case 10: self = .q2_K
    case 11: self = .q3_K
    case 12: self = .q4_K
    case 13: self = .q5_K
    case 14: self = .q6_K
    case 15: self = .q8_K
    case 16: self = .iq2_xxs
    case 17: self = .iq2_xs
    case 18: self = .iq3_xxs
    case 19: self = .iq1_s
    case 20: self = .iq4_nl
    case 21: self = .iq3_s
    case 22: self = .iq2_s
    case 23: self = .iq4_xs
    case 24: self = .i8
    case 25: self = .i16
    case 26: self = .i32
    case 27: self = .i64
    case 28: self = .f64
    case 29: self = .iq1_m
    case 30: self = .bf16
    case 34: self = .tq1_0
    case 35: self = .tq2_0
    case 39: self = .mxfp4
    case 40: self = .nvfp4
    case 41: self = .q1_0
    default: return nil
    }
  }

  /// Bytes that `count` values take, or nil when they do not fill whole blocks or the size does not fit in `Int`.
  package func byteCount(of count: Int) -> Int? {
    let (values, bytes) = block
    guard count >= 0, count % values == 0 else { return nil }
    let (size, overflow) = (count / values).multipliedReportingOverflow(by: bytes)
    return overflow ? nil : size
  }
}
