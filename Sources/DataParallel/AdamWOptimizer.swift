package import Kernels
import Tensors

/// AdamW over the parameter arena: owns the moments and the step count.
///
/// Every rank holds all of the state and does the same update, so the ranks' parameters stay the same without being
/// sent.
package final class AdamWOptimizer {
  package let parameters: UnsafeMutableBufferPointer<Float>
  package let gradients: UnsafeMutableBufferPointer<Float>
  package let hyperparameters: AdamW.Hyperparameters
  /// Updates done so far; set when a checkpoint is loaded.
  package var stepCount = 0
  private let first: AlignedBuffer<Float>
  private let second: AlignedBuffer<Float>
  private let pieces: [Piece]

  private struct Piece: Sendable {
    let range: Range<Int>
    let decays: Bool
  }

  /// - Parameters:
  ///   - parameters, gradients: arenas with the same layout; they must outlive the optimizer.
  ///   - decayRanges: where weight decay applies: all weights but biases and norm weights. They do not overlap.
  package init(
    parameters: UnsafeMutableBufferPointer<Float>, gradients: UnsafeMutableBufferPointer<Float>,
    decayRanges: [Range<Int>], hyperparameters: AdamW.Hyperparameters
  ) {
    precondition(parameters.count == gradients.count, "\(parameters.count) parameters and \(gradients.count) gradients")
    self.parameters = parameters
    self.gradients = gradients
    self.hyperparameters = hyperparameters
    first = AlignedBuffer(count: parameters.count)
    second = AlignedBuffer(count: parameters.count)
    pieces = Self.pieces(count: parameters.count, decayRanges: decayRanges)
  }

  /// Running means of the gradients and of their squares, laid out as the parameters; for checkpoints.
  package var firstMoments: UnsafeMutableBufferPointer<Float> { first.values }
  package var secondMoments: UnsafeMutableBufferPointer<Float> { second.values }

  /// One update with the gradients times `gradientScale` (what clipping asks for).
  ///
  /// - Parameter pool: spreads the work over its threads; the result is the same bit for bit.
  package func step(learningRate: Double, gradientScale: Float = 1, pool: ThreadPool? = nil) {
    guard let parameters = parameters.baseAddress, let gradients = gradients.baseAddress else {
      stepCount += 1
      return
    }
    stepCount += 1
    var undecayed = hyperparameters
    undecayed.weightDecay = 0
    let work = Work(
      parameters: parameters, gradients: gradients, firstMoments: first.pointer, secondMoments: second.pointer,
      pieces: pieces, step: stepCount, learningRate: learningRate, gradientScale: gradientScale,
      decayed: hyperparameters, undecayed: undecayed)
    if let pool {
      pool.tasks(pieces.count) { piece, _ in work.update(piece) }
    } else {
      for piece in pieces.indices { work.update(piece) }
    }
  }

  /// What the threads of one update share; they write to different ranges.
  private struct Work: @unchecked Sendable {
    let parameters: UnsafeMutablePointer<Float>
    let gradients: UnsafeMutablePointer<Float>
    let firstMoments: UnsafeMutablePointer<Float>
    let secondMoments: UnsafeMutablePointer<Float>
    let pieces: [Piece]
    let step: Int
    let learningRate: Double
    let gradientScale: Float
    let decayed: AdamW.Hyperparameters
    let undecayed: AdamW.Hyperparameters

    func update(_ index: Int) {
      let piece = pieces[index]
      let start = piece.range.lowerBound
      AdamW.update(
        parameters: parameters + start, gradients: gradients + start, firstMoments: firstMoments + start,
        secondMoments: secondMoments + start, count: piece.range.count, step: step, learningRate: learningRate,
        gradientScale: gradientScale, piece.decays ? decayed : undecayed)
    }
  }

  /// The arena cut where decay begins or ends, and so that several threads find work of about the same size.
  private static func pieces(count: Int, decayRanges: [Range<Int>]) -> [Piece] {
    let largest = 1 << 18
    var pieces: [Piece] = []
    func add(_ range: Range<Int>, _ decays: Bool) {
      var start = range.lowerBound
      while start < range.upperBound {
        let end = min(start + largest, range.upperBound)
        pieces.append(Piece(range: start..<end, decays: decays))
        start = end
      }
    }
    var done = 0
    for range in decayRanges.sorted(by: { $0.lowerBound < $1.lowerBound }) where !range.isEmpty {
      precondition(range.lowerBound >= done && range.upperBound <= count, "decay range \(range) overlaps or is outside")
      add(done..<range.lowerBound, false)
      add(range, true)
      done = range.upperBound
    }
    add(done..<count, false)
    return pieces
  }
}
