/// The candidate with the smallest edit distance; the first of several. `candidates` must not be empty.
func nearestName(to name: String, among candidates: [String]) -> String {
  let written = Array(name.lowercased().replacing("-", with: "_").utf8)
  let ranked = candidates.map { (name: $0, distance: editDistance(written, Array($0.utf8))) }
  guard let best = ranked.min(by: { $0.distance < $1.distance }) else { preconditionFailure("no candidates") }
  return best.name
}

/// Insertions, deletions, replacements and swaps of neighbours (optimal string alignment).
func editDistance(_ a: [UInt8], _ b: [UInt8]) -> Int {
  var beforeLast: [Int] = []
  var last = Array(0...b.count)
  for i in 0..<a.count {
    var row = [i + 1]
    row.reserveCapacity(b.count + 1)
    for j in 0..<b.count {
      var distance = min(last[j + 1] + 1, row[j] + 1, last[j] + (a[i] == b[j] ? 0 : 1))
      if i > 0, j > 0, a[i] == b[j - 1], a[i - 1] == b[j] { distance = min(distance, beforeLast[j - 1] + 1) }
      row.append(distance)
    }
    (beforeLast, last) = (last, row)
  }
  return last[b.count]
}
