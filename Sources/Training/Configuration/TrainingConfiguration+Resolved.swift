import Preferences

extension TrainingConfiguration {
  /// Every key with its final value, one a line, in a fixed order; reads back equal.
  package var resolvedYAML: String {
    "# Every key with the value this run used.\n" + Self.keys.map { "\($0.name): \($0.write(self))\n" }.joined()
  }

  /// The keys on which all ranks must agree, one `key: value` a line. Threads may differ from host to host, and so may the
  /// place of the output folder where every host has a disk of its own.
  package var comparisonText: String {
    let own = ["threads_per_rank"] + (saveSharded ? ["output_dir"] : [])
    return Self.keys.filter { !own.contains($0.name) }.map { "\($0.name): \($0.write(self))\n" }.joined()
  }

  /// Keys that may differ between a run and its continuation without a word: they change where, how fast and how often
  /// something is written, not what is computed. Ranks and accumulation may change as long as the global batch stays, which
  /// is compared apart.
  private static let keysWithoutResults: Set<String> = [
    "output_dir", "strict_data", "per_device_train_batch_size", "per_device_eval_batch_size",
    "gradient_accumulation_steps", "threads_per_rank", "zero_stage", "logging_steps", "eval_steps", "eval_on_start",
    "save_steps", "save_total_limit", "save_sharded", "report_to", "prometheus_file", "watchdog_seconds",
    "max_skipped_steps", "check_ranks_steps", "trace", "trace_steps", "gradient_checkpointing",
  ]

  /// The first setting that changes results and is not what `text`, another run's resolved YAML, says; as `key: value` lines.
  package func differenceInResults(from text: String) -> (then: String, now: String)? {
    var then: [Substring: Substring] = [:]
    for line in text.split(separator: "\n") where !line.hasPrefix("#") {
      then[line.prefix { $0 != ":" }] = line
    }
    // Where means are taken over the batches of devices, their size counts.
    let counted = lossNormalization == .microbatch ? ["per_device_train_batch_size"] : []
    for key in Self.keys where counted.contains(key.name) || !Self.keysWithoutResults.contains(key.name) {
      let now = "\(key.name): \(key.write(self))"
      // A key that is younger than the other run had its default there.
      let before = then[key.name[...]].map(String.init) ?? "\(key.name): \(key.write(TrainingConfiguration()))"
      if before != now { return (before, now) }
    }
    return nil
  }

  /// 64 bits of `comparisonText` (FNV-1a): equal on ranks that were told the same.
  package var digest: UInt64 {
    comparisonText.utf8.reduce(0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
  }

  /// Lines of two comparison texts that differ, as pairs.
  package static func differences(_ a: String, _ b: String) -> [(String, String)] {
    zip(a.split(separator: "\n"), b.split(separator: "\n")).filter { $0 != $1 }.map { (String($0), String($1)) }
  }
}
