/// Bytes of one rank's memory by what they hold.
package struct PlannedMemory: Sendable, Equatable {
  package var parameters: Int
  package var gradients: Int
  package var optimizer: Int
  /// The parameters rounded to bf16, as products take them; 0 in fp32.
  package var roundedParameters: Int
  package var activations: Int

  package var total: Int { parameters + gradients + optimizer + roundedParameters + activations }

  /// - Parameters:
  ///   - owners: ranks that share the optimizer's state; 1 when every rank holds all of it.
  ///   - activations: what the decoder reserves for its largest pass.
  ///   - arenas: of gradients.
  package init(parameters count: Int, owners: Int, isRounded: Bool, activations: Int, arenas: Int = 1) {
    parameters = 4 * count
    gradients = 4 * count * arenas
    optimizer = 8 * ((count + owners - 1) / owners)
    roundedParameters = isRounded ? 2 * count : 0
    self.activations = activations
  }
}
