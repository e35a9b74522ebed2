import Decoder
import Kernels
import Tensors
import Testing

@Suite struct GoldenTests {
  static let splits: [[[Int]]] = [[[0, 1, 2]], [[0], [1], [2]], [[2, 0], [1]]]

  @Test(arguments: GoldenModel.names, splits)
  func lossLogProbabilitiesAndEveryGradientEqualPyTorchs(name: String, microBatches: [[Int]]) throws {
    let model = try GoldenModel(name)
    let computed = try model.compute(microBatches: microBatches)
    #expect(abs(computed.loss - model.loss) < 2e-6 * abs(model.loss))
    for index in model.pairs.indices {
      #expect(relativeDistance(try #require(computed.chosen[index]), try model.tensor("logps.\(index).chosen")) < 1e-5)
      #expect(
        relativeDistance(try #require(computed.rejected[index]), try model.tensor("logps.\(index).rejected")) < 1e-5)
    }
    for entry in computed.layout.entries {
      let golden = try model.tensor("grad." + entry.name)
      try #require(golden.count == entry.count)
      let distance = relativeDistance(computed.gradients[entry.range], golden)
      #expect(distance < 5e-5, "\(entry.name) differs by \(distance)")
    }
  }

  @Test(arguments: [2, 3, 5])
  func moreThreadsGiveTheSame(threads: Int) throws {
    for name in GoldenModel.names {
      let model = try GoldenModel(name)
      let one = try model.compute(microBatches: [[0, 1, 2]])
      let many = try model.compute(threads: threads, microBatches: [[0, 1, 2]])
      #expect(abs(one.loss - many.loss) < 1e-6 * abs(one.loss))
      #expect(relativeDistance(many.gradients, one.gradients) < 1e-5, "\(name)")
    }
  }

  /// With no room for logits they are computed again in backward, here by the same products.
  @Test func logitsComputedAgainAreTheSame() throws {
    let model = try GoldenModel("mha-tied")
    let kept = try model.compute(microBatches: [[0, 1, 2]])
    let again = try model.compute(microBatches: [[0, 1, 2]], logitsBudget: 0)
    #expect(kept.gradients == again.gradients)
  }

  /// bf16 keeps 8 bits, 0.4 % of each factor. In these small models sums are short and cancel, so single gradients are
  /// further off than those of a real one.
  @Test(.enabled(if: ProductPrecision.hasBFloat16), arguments: GoldenModel.names, [1, 3])
  func productsInBFloat16AreClose(name: String, threads: Int) throws {
    let model = try GoldenModel(name)
    let computed = try model.compute(threads: threads, microBatches: [[0, 1], [2]], precision: .bfloat16)
    #expect(abs(computed.loss - model.loss) < 5e-3 * abs(model.loss))
    for index in model.pairs.indices {
      #expect(relativeDistance(try #require(computed.chosen[index]), try model.tensor("logps.\(index).chosen")) < 0.02)
    }
    for entry in computed.layout.entries {
      let golden = try model.tensor("grad." + entry.name)
      let distance = relativeDistance(computed.gradients[entry.range], golden)
      #expect(distance < 0.3, "\(entry.name) differs by \(distance)")
      // Products in fp32 would be a thousand times closer.
      if entry.name.hasSuffix("gate_proj.weight") { #expect(distance > 1e-4, "\(entry.name)") }
    }
  }

  @Test(arguments: GoldenModel.names)
  func gradientsBecomeReadyFromTheFrontAndStay(name: String) throws {
    let model = try GoldenModel(name)
    let ends = try #require(try model.compute(microBatches: [[0, 1, 2]]).readyEnds.first)
    #expect(ends.count == model.configuration.numHiddenLayers + 1)
    #expect(ends == ends.sorted())
    #expect(try #require(ends.last) < model.compute(microBatches: [[0]]).layout.count)
  }
}
