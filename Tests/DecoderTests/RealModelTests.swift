import Foundation
import Tensors
import Testing

/// Where `benchmarks/gradients_vs_torch.py` has put a model and what PyTorch computed for it.
private let realModel = ProcessInfo.processInfo.environment["ORPO_DIST_REAL_MODEL"]

/// One real pair on a real model against PyTorch. The golden values are too large to be kept:
/// `benchmarks/gradients_vs_torch.py` makes them in a folder, names it in `ORPO_DIST_REAL_MODEL` and runs this suite.
@Suite(.enabled(if: realModel != nil, "ORPO_DIST_REAL_MODEL names no folder; see benchmarks/gradients_vs_torch.py"))
struct RealModelTests {
  @Test func everyGradientOfARealPairEqualsPyTorchs() throws {
    let model = try GoldenModel(name: "real model", folder: URL(fileURLWithPath: try #require(realModel)))
    let computed = try model.compute(microBatches: [Array(model.pairs.indices)])
    #expect(abs(computed.loss - model.loss) < 1e-5 * abs(model.loss))
    for index in model.pairs.indices {
      for (name, logps) in [("chosen", computed.chosen[index]), ("rejected", computed.rejected[index])] {
        let golden = try model.tensor("logps.\(index).\(name)")
        let logps = try #require(logps)
        try #require(logps.count == golden.count)
        let largest = zip(logps, golden).map { abs($0 - $1) }.max() ?? 0
        #expect(largest < 1e-3)
        print("log-probabilities, \(name): \(golden.count) tokens, largest difference \(largest)")
      }
    }
    var distances: [(distance: Double, name: String)] = []
    for entry in computed.layout.entries {
      let golden = try model.tensor("grad." + entry.name)
      try #require(golden.count == entry.count)
      let distance = relativeDistance(computed.gradients[entry.range], golden)
      #expect(distance < 1e-4, "\(entry.name) differs by \(distance)")
      distances.append((distance, entry.name))
    }
    distances.sort { $0.distance > $1.distance }
    let size = computed.gradients.reduce(0) { $0 + Double($1) * Double($1) }.squareRoot()
    print("loss \(computed.loss) against \(model.loss), gradient norm \(size)")
    print(
      "gradients: \(distances.count) parameters, median distance \(distances[distances.count / 2].distance), largest:")
    for (distance, name) in distances.prefix(5) { print("  \(distance)  \(name)") }
  }
}
