extension TrainingConfiguration {
  /// Every key with its final value, one a line, in a fixed order; reads back equal.
  package var resolvedYAML: String {
    "# Every key with the value this run used.\n" + Self.keys.map { "\($0.name): \($0.write(self))\n" }.joined()
  }

  /// The keys on which all ranks must agree, one `key: value` a line. Threads may differ from host to host.
  package var comparisonText: String {
    Self.keys.filter { $0.name != "threads_per_rank" }.map { "\($0.name): \($0.write(self))\n" }.joined()
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
