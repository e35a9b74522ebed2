import Kernels
import Tensors

/// The gradients of a rank's parts of a step while they are computed one after the other: sums are formed as soon as the
/// tree of `PartSpan` has them, so that few arenas are held, and the last part's while backward finishes it.
///
/// With one part a rank, which is how gradients are summed unless parts are asked for, this is one arena and no work.
final class PartialSumStack: @unchecked Sendable {
  /// The first is the caller's, in which results come to lie.
  private let arenas: [UnsafeMutablePointer<Float>]
  private let memory: AlignedBuffer<Float>
  private let count: Int
  private var free: [Int] = []
  private var held: [Held] = []

  private struct Held {
    var span: PartSpan
    var arena: Int
  }

  /// - Parameter arenas: the most that are held at a time.
  init(_ first: UnsafeMutableBufferPointer<Float>, arenas arenaCount: Int) {
    count = first.count
    // Each begins at a cache line.
    let stride = (first.count + 15) / 16 * 16
    memory = AlignedBuffer(count: max(arenaCount - 1, 0) * stride)
    let further = memory.pointer
    // Nothing is read or written in an arena without values.
    arenas = [first.baseAddress ?? further] + (1..<max(arenaCount, 1)).map { further + ($0 - 1) * stride }
    free = Array(arenas.indices.reversed())
  }

  /// Memory beyond the caller's arena.
  var bytes: Int { memory.bytes }

  /// Takes an arena for a part; what it holds is the caller's to clear.
  func begin(_ part: Int) -> UnsafeMutablePointer<Float> {
    guard let arena = free.popLast() else { preconditionFailure("part \(part) finds no arena") }
    held.append(Held(span: PartSpan(part: part), arena: arena))
    return arenas[arena]
  }

  /// The part begun last is complete, and not the rank's last one.
  func end(_ pool: ThreadPool) {
    while held.count > 1, let joined = held[held.count - 2].span.joined(with: held[held.count - 1].span) {
      let upper = held.removeLast().arena
      let lower = held[held.count - 1].arena
      held[held.count - 1].span = joined
      pool.ranges(count, grain: 1 << 16) { [arenas] range in
        SliceSum.add(arenas[upper] + range.lowerBound, to: arenas[lower] + range.lowerBound, count: range.count)
      }
      free.append(upper)
    }
  }

  /// Adds up what the tree allows within `range`, the last part included, and returns what is left. Any thread may call,
  /// for ranges that backward has finished.
  func fold(_ range: Range<Int>) -> [(span: PartSpan, arena: UnsafeMutablePointer<Float>)] {
    var left: [Held] = []
    for next in held {
      var next = next
      while let last = left.last, let joined = last.span.joined(with: next.span) {
        left.removeLast()
        SliceSum.add(
          arenas[next.arena] + range.lowerBound, to: arenas[last.arena] + range.lowerBound, count: range.count)
        next = Held(span: joined, arena: last.arena)
      }
      left.append(next)
    }
    return left.map { ($0.span, arenas[$0.arena]) }
  }

  /// The step is over.
  func reset() {
    held = []
    free = Array(arenas.indices.reversed())
  }
}
