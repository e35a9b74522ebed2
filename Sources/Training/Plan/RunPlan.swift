package import Decoder
import Packing
import Preferences

/// What a run will take: memory, time and network, computed from measured costs. Pure arithmetic.
package struct RunPlan: Sendable {
  /// How the run is spread.
  package struct Layout: Sendable, Equatable {
    package var ranks: Int
    package var hosts: Int
    package var threads: Int
    /// Bytes per second out of a host, and the same into it.
    package var network: Double

    package init(ranks: Int, hosts: Int, threads: Int, network: Double) {
      self.ranks = ranks
      self.hosts = hosts
      self.threads = threads
      self.network = network
    }

    package var ranksPerHost: Int { (ranks + hosts - 1) / hosts }
  }

  package var layout: Layout
  package var memory: PlannedMemory
  package var steps: PlannedSteps
  package var compute: PlannedSteps.Compute
  /// The update, and what else goes over all parameters or gradients once a step.
  package var optimizerSeconds: Double
  package var communication: CommunicationCost
  /// Pairs per second of one rank on a host of its own, on as many pairs a rank.
  package var singlePairsPerSecond: Double
  /// Optimizer steps of the run; nil when it is not known how many pairs there are.
  package var totalSteps: Int?

  /// - Parameters:
  ///   - isRounded: whether products are in bf16.
  ///   - cost: with all of a host's ranks at work; `alone`: with one rank.
  ///   - memoryBandwidth: bytes per second that a host's cores copy.
  package init(
    model: DecoderConfiguration, layout: Layout, isSharded: Bool, isRounded: Bool, wireBytes: Int = 4, activations: Int,
    arenas: Int = 1,
    steps: PlannedSteps, singleSteps: PlannedSteps, cost: PassCost, alone: PassCost, memoryBandwidth: Double,
    totalSteps: Int?
  ) {
    self.layout = layout
    self.steps = steps
    self.totalSteps = totalSteps
    let parameters = model.parameterCount
    let owners = isSharded ? layout.ranks : 1
    memory = PlannedMemory(
      parameters: parameters, owners: owners, isRounded: isRounded, activations: activations, arenas: arenas)
    compute = steps.compute(cost)
    // Gradients are cleared (write) and their norm taken (read); weights are rounded (read 4, write 2).
    let sweeps = Double(isRounded ? 14 : 8) * Double(parameters) / memoryBandwidth
    optimizerSeconds =
      cost.perUpdatedParameter * Double(parameters) / Double(owners) + sweeps * Double(layout.ranksPerHost)
    communication = CommunicationCost(
      .init(
        parameters: parameters, lastParameters: model.headProduct.parameters, ranks: layout.ranks, hosts: layout.hosts,
        isSharded: isSharded && layout.ranks > 1, wireBytes: wireBytes, network: layout.network,
        memory: memoryBandwidth),
      overlap: compute.lastBackward)
    let single = singleSteps.compute(alone).busiest + alone.perUpdatedParameter * Double(parameters) + sweeps
    singlePairsPerSecond = singleSteps.pairsPerStep / single
  }

  package var stepSeconds: Double { compute.busiest + optimizerSeconds + communication.exposed }
  /// Busiest rank's passes over the mean; what is above 1 the others wait.
  package var imbalance: Double { compute.mean > 0 ? compute.busiest / compute.mean : 1 }
  package var pairsPerSecond: Double { steps.pairsPerStep / stepSeconds }
  package var tokensPerSecond: Double { steps.tokensPerStep / stepSeconds }
  /// Speed against that of as many single ranks, each alone on its host.
  package var efficiency: Double { pairsPerSecond / (Double(layout.ranks) * singlePairsPerSecond) }
  /// Seconds of all steps, without evaluation and saving; nil when their number is not known.
  package var runSeconds: Double? { totalSteps.map { Double($0) * stepSeconds } }
}
