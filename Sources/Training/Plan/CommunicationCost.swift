/// How long the ranks' gradients and parameters travel in one step, and how much of that nobody sees.
package struct CommunicationCost: Sendable, Equatable {
  /// What travels, between whom.
  package struct Setting: Sendable, Equatable {
    package var parameters: Int
    /// Parameters whose gradients are finished last of all, with nothing left to compute beside them: the embedding.
    package var lastParameters: Int
    package var ranks: Int
    package var hosts: Int
    /// Whether ranks own a share of the optimizer's state each, update it, and gather parameters afterwards.
    package var isSharded: Bool
    /// Bytes of a gradient value between hosts.
    package var wireBytes: Int
    /// Bytes per second that leave one host (and that enter it, at the same time).
    package var network: Double
    /// Bytes per second that the cores of one host read and write together.
    package var memory: Double

    package init(
      parameters: Int, lastParameters: Int, ranks: Int, hosts: Int, isSharded: Bool, wireBytes: Int = 4,
      network: Double, memory: Double
    ) {
      self.parameters = parameters
      self.lastParameters = lastParameters
      self.ranks = ranks
      self.hosts = hosts
      self.isSharded = isSharded
      self.wireBytes = wireBytes
      self.network = network
      self.memory = memory
    }
  }

  /// Bytes that leave each host in a step.
  package var networkBytes: Double
  /// Seconds on the network until gradients are summed, and until parameters are back everywhere.
  package var networkReduce: Double
  package var networkGather: Double
  /// Seconds in which the cores of a host copy and add: sums inside it, and copies of parameters.
  package var inNode: Double
  /// Seconds that add to the step.
  package var exposed: Double

  /// - Parameter overlap: seconds of the last pass's backward, in which finished gradients travel.
  package init(_ setting: Setting, overlap: Double) {
    let bytes = 4 * Double(setting.parameters)
    let others = Double(setting.hosts - 1) / Double(setting.hosts)
    let reduceBytes = others * Double(setting.wireBytes) * Double(setting.parameters)
    // Reduce-scatter and all-gather; without sharding both are parts of one all-reduce of gradients.
    let gatherBytes = others * (setting.isSharded ? 4 : Double(setting.wireBytes)) * Double(setting.parameters)
    networkBytes = reduceBytes + gatherBytes
    networkReduce = (setting.isSharded ? reduceBytes : networkBytes) / setting.network
    networkGather = setting.isSharded ? gatherBytes / setting.network : 0

    let local = Double(setting.ranks) / Double(setting.hosts)
    // Through shared memory a rank copies what the others own of its gradients (read, write), adds up its own slice of all
    // ranks' (read each, write one), and the way back copies every slice in and out once.
    inNode = local > 1 ? (2 * (local - 1) + local + 1 + 2 * local) * bytes / setting.memory : 0

    let last = Double(setting.lastParameters) / Double(max(setting.parameters, 1))
    let hidden = min(networkReduce * (1 - last), overlap)
    exposed = networkReduce - hidden + networkGather + inNode
  }
}
