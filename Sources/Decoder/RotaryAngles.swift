import Foundation

/// Cosine and sine of every (position, feature pair), computed once and copied to the rows of a micro-batch.
final class RotaryAngles {
  private let configuration: DecoderConfiguration
  private let half: Int
  private var cosine: [Float] = []
  private var sine: [Float] = []
  private var positions = 0
  /// Length the table was made for; only `dynamic` embeddings depend on it.
  private var tableLength = 0

  init(_ configuration: DecoderConfiguration) {
    self.configuration = configuration
    half = configuration.headDim / 2
  }

  /// Writes the angles for `rows` rows at `position, position + 1, ...` of a sequence of `length` tokens.
  func copy(
    position: Int, rows: Int, length: Int, cosine: UnsafeMutablePointer<Float>, sine: UnsafeMutablePointer<Float>
  ) {
    prepare(positions: position + rows, length: length)
    self.cosine.withUnsafeBufferPointer { table in
      if let base = table.baseAddress { cosine.update(from: base + position * half, count: rows * half) }
    }
    self.sine.withUnsafeBufferPointer { table in
      if let base = table.baseAddress { sine.update(from: base + position * half, count: rows * half) }
    }
  }

  private func prepare(positions needed: Int, length: Int) {
    let stretched = max(length, configuration.maxPositionEmbeddings)
    if configuration.rope.dependsOnLength, stretched != tableLength { positions = 0 }
    guard needed > positions else { return }
    tableLength = stretched
    let (inverse, factor) = configuration.rope.frequencies(
      headDim: configuration.headDim, maxPositionEmbeddings: configuration.maxPositionEmbeddings, sequenceLength: length
    )
    positions = max(needed, 2 * positions)
    cosine = []
    sine = []
    cosine.reserveCapacity(positions * half)
    sine.reserveCapacity(positions * half)
    for position in 0..<positions {
      for inverse in inverse {
        // The angle is rounded to fp32 first, as in HF, so that far positions turn alike.
        let angle = Double(Float(position) * inverse)
        cosine.append(Float(cos(angle)) * factor)
        sine.append(Float(sin(angle)) * factor)
      }
    }
  }
}
