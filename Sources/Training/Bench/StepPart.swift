/// What the time of a step is divided into. Every span belongs to one part; the spans of the step, its micro-batches and
/// layers themselves have what is left between the others.
package enum StepPart: String, CaseIterable, Sendable {
  case embedding
  case norms
  case qkv = "q k v"
  case attentionOut = "attention out"
  case gateUp = "gate up"
  case down
  case attention
  case activation = "activation, rotary"
  case head
  case softmax = "softmax, log-probs"
  /// Factors and weights to bf16.
  case rounding = "rounding to bf16"
  case objective
  /// The update, and clearing gradients for the next sum.
  case optimizer
  case reduction
  /// For ranks that come later to what all do together.
  case waiting
  case other

  /// The part a span's own time goes to.
  static func of(_ span: String) -> StepPart { table[span] ?? .other }

  private static let table: [String: StepPart] = {
    var table: [String: StepPart] = [
      "round factor": .rounding, "round weights": .rounding, "objective": .objective, "optimizer": .optimizer,
      "head recompute": .head, "clear gradients": .optimizer,
    ]
    for name in collectives { table[name] = .reduction }
    for (name, part) in [
      ("embedding", StepPart.embedding), ("norm", .norms), ("attention", .attention), ("activation", .activation),
      ("rotary", .activation), ("softmax", .softmax),
    ] {
      table[name + " forward"] = part
      table[name + " backward"] = part
    }
    for (name, part) in [
      ("qkv", StepPart.qkv), ("attention output", .attentionOut), ("gate up", .gateUp), ("down", .down),
      ("head", .head),
    ] {
      for form in [" forward", " input gradient", " weight gradient"] { table[name + form] = part }
    }
    return table
  }()

  /// Spans in which a rank can only go on when all others have come: the time until the last has come is waiting.
  static let collectives: Set<String> = [
    "reduce bucket", "finish reduction", "gradient norm", "agree on metrics", "gather parameters",
  ]
}
