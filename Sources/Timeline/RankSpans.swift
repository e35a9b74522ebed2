/// The spans of one rank as plain values: what ranks send to rank 0, and what is summed up.
package struct RankSpans: Sendable, Equatable {
  package struct Span: Sendable, Equatable {
    package var name: String
    /// -1 when there is only one of its kind.
    package var index: Int
    package var thread: Int
    /// Nanoseconds.
    package var begin: Int64
    package var end: Int64

    package init(name: String, index: Int = -1, thread: Int = 0, begin: Int64, end: Int64) {
      self.name = name
      self.index = index
      self.thread = thread
      self.begin = begin
      self.end = end
    }

    package var duration: Int64 { end - begin }
  }

  /// In the order in which they ended.
  package var spans: [Span]
  /// Spans for which the timeline had no room.
  package var droppedCount: Int

  package init(spans: [Span], droppedCount: Int = 0) {
    self.spans = spans
    self.droppedCount = droppedCount
  }

  /// - Parameter clockOffset: how far this rank's clock is ahead of rank 0's, in nanoseconds; the copy is in rank 0's
  ///   time.
  package init(_ timeline: Timeline, clockOffset: Int64 = 0) {
    spans = timeline.recorded.map {
      Span(
        name: $0.name.description, index: Int($0.index), thread: Int($0.thread), begin: $0.begin - clockOffset,
        end: $0.end - clockOffset)
    }
    droppedCount = timeline.droppedCount
  }
}

// MARK: - Time spent in a span itself

extension RankSpans {
  /// Nanoseconds of each span without those of the spans inside it, in the order of `spans`: their sum is the time covered
  /// by the outermost spans, whatever is nested in what. Spans of one thread are nested or apart, as calls are.
  package var ownTimes: [Int64] {
    var own = spans.map(\.duration)
    for thread in Set(spans.map(\.thread)) {
      // Outer spans first; of two that cover the same time the one that ended last is the outer one.
      let order = spans.indices.filter { spans[$0].thread == thread }.sorted { a, b in
        let (first, second) = (spans[a], spans[b])
        return (first.begin, -first.end, -a) < (second.begin, -second.end, -b)
      }
      var open: [Int] = []
      for index in order {
        while let last = open.last, spans[last].end <= spans[index].begin { open.removeLast() }
        if let parent = open.last { own[parent] -= spans[index].duration }
        open.append(index)
      }
    }
    return own
  }
}

// MARK: - Bytes

extension RankSpans {
  /// 64-bit words: dropped spans, number of names, the names with their lengths, number of spans, the spans.
  package var bytes: [UInt8] {
    var bytes: [UInt8] = []
    func append(_ value: Int64) { withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) } }
    var places: [String: Int] = [:]
    var names: [String] = []
    for span in spans where places[span.name] == nil {
      places[span.name] = names.count
      names.append(span.name)
    }
    append(Int64(droppedCount))
    append(Int64(names.count))
    for name in names {
      append(Int64(name.utf8.count))
      bytes.append(contentsOf: name.utf8)
    }
    append(Int64(spans.count))
    bytes.reserveCapacity(bytes.count + 40 * spans.count)
    for span in spans {
      append(Int64(places[span.name] ?? 0))
      append(Int64(span.index))
      append(Int64(span.thread))
      append(span.begin)
      append(span.end)
    }
    return bytes
  }

  /// - Precondition: the bytes are from `bytes`.
  package init(bytes: [UInt8]) {
    var offset = 0
    func next() -> Int64 {
      defer { offset += 8 }
      return bytes.withUnsafeBytes { Int64(littleEndian: $0.loadUnaligned(fromByteOffset: offset, as: Int64.self)) }
    }
    let dropped = Int(next())
    let names = (0..<next()).map { _ in
      let length = Int(next())
      defer { offset += length }
      return String(decoding: bytes[offset..<offset + length], as: UTF8.self)
    }
    let spans = (0..<next()).map { _ in
      let (name, index, thread) = (Int(next()), Int(next()), Int(next()))
      let begin = next()
      return Span(name: names[name], index: index, thread: thread, begin: begin, end: next())
    }
    self.init(spans: spans, droppedCount: dropped)
  }
}
