package import Kernels
import Tensors

/// AdamW over the parameter arena: owns the moments and the step count.
///
/// Moments are held, and parameters updated, only for the `owned` ranges. With all of the arena on every rank, the ranks
/// do the same update and their parameters stay the same without being sent; with a share on each (ZeRO stage 1, arXiv
/// 1910.02054), every rank's memory for moments is that share, and the ranks give each other what they updated. The
/// parameters are the same bit for bit: a value's update does not depend on its place.
package final class AdamWOptimizer {
  package let parameters: UnsafeMutableBufferPointer<Float>
  package let gradients: UnsafeMutableBufferPointer<Float>
  package let hyperparameters: AdamW.Hyperparameters
  /// Ranges of the arena, ascending and not empty.
  package let owned: [Range<Int>]
  /// Updates done so far; set when a checkpoint is loaded.
  package var stepCount = 0
  private let first: AlignedBuffer<Float>
  private let second: AlignedBuffer<Float>
  /// Where the moments of each owned range begin.
  private let begins: [Int]
  private let pieces: [Piece]

  /// A running mean that AdamW keeps of every gradient, or of its square.
  package enum Moment: Int, CaseIterable, Sendable {
    case first, second
  }

  private struct Piece: Sendable {
    let range: Range<Int>
    let moments: Int
    let decays: Bool
  }

  /// - Parameters:
  ///   - parameters, gradients: arenas with the same layout; they must outlive the optimizer.
  ///   - decayRanges: where weight decay applies: all weights but biases and norm weights. They do not overlap.
  ///   - owned: ranges of the arena to update, ascending; all of it unless given.
  package init(
    parameters: UnsafeMutableBufferPointer<Float>, gradients: UnsafeMutableBufferPointer<Float>,
    decayRanges: [Range<Int>], hyperparameters: AdamW.Hyperparameters, owned: [Range<Int>]? = nil
  ) {
    precondition(parameters.count == gradients.count, "\(parameters.count) parameters and \(gradients.count) gradients")
    self.parameters = parameters
    self.gradients = gradients
    self.hyperparameters = hyperparameters
    let owned = (owned ?? [0..<parameters.count]).filter { !$0.isEmpty }
    self.owned = owned
    var begins: [Int] = []
    var count = 0
    var end = 0
    for range in owned {
      precondition(range.lowerBound >= end && range.upperBound <= parameters.count, "\(range) overlaps or is outside")
      begins.append(count)
      count += range.count
      end = range.upperBound
    }
    self.begins = begins
    first = AlignedBuffer(count: count)
    second = AlignedBuffer(count: count)
    pieces = Self.pieces(count: parameters.count, decayRanges: decayRanges, owned: owned)
  }

  /// All moments of the owned ranges, one range after the other.
  package func moments(_ moment: Moment) -> UnsafeMutableBufferPointer<Float> {
    moment == .first ? first.values : second.values
  }

  /// Moments of a part of the arena.
  /// - Precondition: it lies within one owned range, or is empty.
  package func moments(_ moment: Moment, of range: Range<Int>) -> UnsafeMutableBufferPointer<Float> {
    guard !range.isEmpty else { return UnsafeMutableBufferPointer(start: nil, count: 0) }
    return UnsafeMutableBufferPointer(rebasing: moments(moment)[place(of: range)])
  }

  /// Where the moments of a part of the arena lie among those of all owned ranges.
  /// - Precondition: it lies within one owned range.
  func place(of range: Range<Int>) -> Range<Int> {
    var (low, high) = (0, owned.count)
    while high - low > 1 {
      let middle = (low + high) / 2
      if owned[middle].lowerBound <= range.lowerBound { low = middle } else { high = middle }
    }
    precondition(!owned.isEmpty && owned[low].contains(range.lowerBound) && range.upperBound <= owned[low].upperBound)
    let begin = begins[low] + range.lowerBound - owned[low].lowerBound
    return begin..<begin + range.count
  }

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
        parameters: parameters + start, gradients: gradients + start, firstMoments: firstMoments + piece.moments,
        secondMoments: secondMoments + piece.moments, count: piece.range.count, step: step, learningRate: learningRate,
        gradientScale: gradientScale, piece.decays ? decayed : undecayed)
    }
  }

  /// The owned ranges cut where decay begins or ends, and so that several threads find work of about the same size.
  private static func pieces(count: Int, decayRanges: [Range<Int>], owned: [Range<Int>]) -> [Piece] {
    let largest = 1 << 18
    var decay: [(range: Range<Int>, decays: Bool)] = []
    var done = 0
    for range in decayRanges.sorted(by: { $0.lowerBound < $1.lowerBound }) where !range.isEmpty {
      precondition(range.lowerBound >= done && range.upperBound <= count, "decay range \(range) overlaps or is outside")
      decay.append((done..<range.lowerBound, false))
      decay.append((range, true))
      done = range.upperBound
    }
    decay.append((done..<count, false))
    var pieces: [Piece] = []
    var moments = 0
    var index = 0
    for range in owned {
      while decay[index].range.upperBound <= range.lowerBound { index += 1 }
      var start = range.lowerBound
      while start < range.upperBound {
        while decay[index].range.upperBound <= start { index += 1 }
        let end = min(start + largest, range.upperBound, decay[index].range.upperBound)
        pieces.append(Piece(range: start..<end, moments: moments, decays: decay[index].decays))
        moments += end - start
        start = end
      }
    }
    return pieces
  }
}
