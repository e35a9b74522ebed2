/// A number of optimizer steps: given as such, or, below 1, as a share of the whole run (transformers' rule for
/// `logging_steps`, `eval_steps`, `save_steps`, `warmup_steps`).
package enum StepInterval: Sendable, Equatable {
  case steps(Int)
  case share(Double)

  /// Whole steps in a run of `total`; a share is rounded up.
  package func steps(of total: Int) -> Int {
    switch self {
    case .steps(let count): count
    case .share(let share): Int((Double(total) * share).rounded(.up))
    }
  }
}

extension StepInterval: ConfigurationValue {
  init(_ value: YAMLValue) throws(ValueProblem) {
    guard let number = value.plain.flatMap(Double.number), number >= 0 else {
      throw ValueProblem(expected: "a number of steps, or a share of the run between 0 and 1", found: value)
    }
    if number > 0, number < 1 {
      self = .share(number)
    } else if let count = Int(exactly: number) {
      self = .steps(count)
    } else {
      throw ValueProblem(expected: "a whole number of steps, or a share of the run between 0 and 1", found: value)
    }
  }

  var yaml: String {
    switch self {
    case .steps(let count): count.yaml
    case .share(let share): share.yaml
    }
  }
}
