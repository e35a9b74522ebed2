package import Packing
import Synchronization
import Tensors

/// How one optimizer step's pairs are counted: per-device batch x accumulation x ranks.
package struct BatchShape: Sendable, Equatable {
  package var perDevice: Int
  package var accumulation: Int
  package var worldSize: Int

  package init(perDevice: Int, accumulation: Int = 1, worldSize: Int = 1) {
    precondition(perDevice > 0 && accumulation > 0 && worldSize > 0, "batch sizes and rank counts are at least 1")
    self.perDevice = perDevice
    self.accumulation = accumulation
    self.worldSize = worldSize
  }

  package var globalBatch: Int { perDevice * accumulation * worldSize }
}

/// Which pairs each optimizer step takes, and which rank computes them: a pure function of the step, the same on every
/// rank, so that training can be resumed anywhere. Epochs do not mix; the last batch of an epoch is short rather than
/// filled up.
package final class GlobalBatchSampler: Sendable {
  package let shape: BatchShape
  package let normalization: LossNormalization
  package let nllTokens: NLLTokens
  private let measures: [PairMeasure]
  private let seed: UInt64
  private let shuffle: Bool
  package let division: BatchDivision
  /// The order of the epoch asked for last; consecutive steps mostly ask for the same.
  private let cachedOrder = Mutex<(epoch: Int, order: [Int])?>(nil)

  /// - Parameter parts: of a step that is to be summed in the same order on any number of ranks.
  package init(
    measures: [PairMeasure], shape: BatchShape, seed: UInt64, shuffle: Bool = true,
    normalization: LossNormalization = .pair, nllTokens: NLLTokens = .all, parts: Int? = nil
  ) {
    precondition(!measures.isEmpty, "there is at least one pair")
    self.measures = measures
    self.shape = shape
    self.seed = seed
    self.shuffle = shuffle
    self.normalization = normalization
    self.nllTokens = nllTokens
    division = BatchDivision(worldSize: shape.worldSize, parts: parts)
  }

  package var pairCount: Int { measures.count }
  package var stepsPerEpoch: Int { (measures.count + shape.globalBatch - 1) / shape.globalBatch }

  /// Epochs done after `steps` optimizer steps, with fraction (what the log calls `epoch`).
  package func epoch(afterSteps steps: Int) -> Double {
    let (whole, rest) = steps.quotientAndRemainder(dividingBy: stepsPerEpoch)
    return Double(whole) + Double(rest * shape.globalBatch) / Double(measures.count)
  }

  /// The plan of optimizer step `step`, counted from 0.
  package func plan(step: Int) -> StepPlan {
    precondition(step >= 0, "steps are counted from 0")
    let (epoch, batch) = step.quotientAndRemainder(dividingBy: stepsPerEpoch)
    let first = batch * shape.globalBatch
    let pairs = order(epoch: epoch)[first..<min(first + shape.globalBatch, measures.count)]
    return StepPlan(
      pairs: Array(pairs), measures: measures, division: division, deviceBatch: shape.perDevice,
      normalization: normalization, nllTokens: nllTokens)
  }

  /// All pairs in file order, dealt out in the same way.
  package static func evaluationPlan(
    measures: [PairMeasure], division: BatchDivision, deviceBatch: Int, normalization: LossNormalization = .pair,
    nllTokens: NLLTokens = .all
  ) -> StepPlan {
    StepPlan(
      pairs: Array(measures.indices), measures: measures, division: division, deviceBatch: deviceBatch,
      normalization: normalization, nllTokens: nllTokens)
  }

  /// The pairs of `epoch` in the order they are taken.
  package func order(epoch: Int) -> [Int] {
    guard shuffle else { return Array(measures.indices) }
    return cachedOrder.withLock { cached in
      if let cached, cached.epoch == epoch { return cached.order }
      var random = CounterRandom(seed: seed, stream: UInt64(epoch))
      let order = random.permutation(of: measures.count)
      cached = (epoch, order)
      return order
    }
  }
}

/// Pairs held out for evaluation and the others, each in file order.
package struct EvaluationSplit: Sendable, Equatable {
  package var training: [Int]
  package var evaluation: [Int]

  /// Holds out `fraction` of `count` pairs, rounded up, chosen by `seed` alone.
  /// - Throws: `PreferenceFileError.invalidOption` when either side would be empty.
  package init(count: Int, fraction: Double, seed: UInt64) throws(PreferenceFileError) {
    guard fraction > 0, fraction < 1 else {
      throw .invalidOption("eval_split is \(fraction), expected a fraction between 0 and 1")
    }
    // 0.07 * 100 is a little more than 7 in binary and is not meant to be 8.
    let heldOut = Int((Double(count) * fraction - 1e-9).rounded(.up))
    guard heldOut > 0, heldOut < count else {
      throw .invalidOption(
        "eval_split \(fraction) of \(count) pairs leaves no pair to \(heldOut > 0 ? "train on" : "evaluate")")
    }
    // A stream no epoch uses.
    var random = CounterRandom(seed: seed, stream: .max)
    let order = random.permutation(of: count)
    evaluation = order[..<heldOut].sorted()
    training = order[heldOut...].sorted()
  }
}

extension CounterRandom {
  /// Fisher and Yates' shuffle of 0..<count, every permutation equally likely.
  fileprivate mutating func permutation(of count: Int) -> [Int] {
    var order = Array(0..<count)
    for last in stride(from: count - 1, to: 0, by: -1) { order.swapAt(last, below(last + 1)) }
    return order
  }

  /// Uniform in 0..<bound. Written out (Lemire's multiplication with rejection) because the standard library does not
  /// promise to draw the same numbers in its next version, and a resumed run must.
  private mutating func below(_ bound: Int) -> Int {
    let bound = UInt64(bound)
    var product = next().multipliedFullWidth(by: bound)
    if product.low < bound {
      let threshold = (0 &- bound) % bound
      while product.low < threshold { product = next().multipliedFullWidth(by: bound) }
    }
    return Int(product.high)
  }
}
