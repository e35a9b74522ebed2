import Checkpoints
import DataParallel
package import ModelFiles
import Tensors

/// A file of AdamW's moments to be written.
package typealias MomentFile = (name: String, tensors: StreamedTensors)

/// AdamW's moments in the files of a checkpoint, under PyTorch's names of the two: all in `optimizer.safetensors`, as
/// `exp_avg.NAME`, or each rank's share in `optimizer-00001-of-00004.safetensors`, as `exp_avg.NAME[BEGIN:END]`, values of the
/// parameter counted row by row. Shares name their values, so that any number of ranks can read them.
enum MomentFiles {
  static let whole = "optimizer.safetensors"

  /// All moments, whoever holds them, in the order of the arena.
  static func whole(_ layout: ParameterLayout, _ stream: MomentStream) -> MomentFile {
    (whole, StreamedTensors(wholeTensors(layout), produce: stream.read))
  }

  /// A rank's share.
  static func shard(_ layout: ParameterLayout, _ shard: MomentShard, of ranks: Int, rank: Int) -> MomentFile {
    let pieces = shard.slices.flatMap { slice in
      layout.entries.filter { $0.range.overlaps(slice) }.map { ($0, $0.range.clamped(to: slice)) }
    }
    let tensors = AdamWOptimizer.Moment.allCases.flatMap { moment in
      pieces.map { entry, range -> (name: String, shape: [Int]) in
        let (begin, end) = (range.lowerBound - entry.offset, range.upperBound - entry.offset)
        return ("\(prefix(moment))\(entry.name)[\(begin):\(end)]", [range.count])
      }
    }
    return (shardName(rank, of: ranks), StreamedTensors(tensors, produce: shard.read))
  }

  /// `optimizer-00001-of-00004.safetensors` of rank 0.
  private static func shardName(_ rank: Int, of ranks: Int) -> String {
    func fiveDigits(_ number: Int) -> String {
      String(repeating: "0", count: max(5 - String(number).count, 0)) + String(number)
    }
    return "optimizer-\(fiveDigits(rank + 1))-of-\(fiveDigits(ranks)).safetensors"
  }

  static func isShard(_ name: String) -> Bool { name.hasPrefix("optimizer-") && name.hasSuffix(".safetensors") }

  fileprivate static func prefix(_ moment: AdamWOptimizer.Moment) -> String {
    moment == .first ? "exp_avg." : "exp_avg_sq."
  }

  fileprivate static func wholeTensors(_ layout: ParameterLayout) -> [(name: String, shape: [Int])] {
    AdamWOptimizer.Moment.allCases.flatMap { moment in
      layout.entries.map { (prefix(moment) + $0.name, $0.shape) }
    }
  }
}

/// The moments that one rank can read from a checkpoint, a part at a time.
struct StoredMoments {
  private struct Piece {
    /// Of the arena.
    var range: Range<Int>
    var file: SafetensorsFile
    /// Of the tensor, without which of the two moments it is.
    var name: String
  }

  /// Ascending.
  private var pieces: [Piece] = []

  /// - Parameter checkpoint: with the files that this rank reads; none of them need be of moments.
  /// - Throws: `CheckpointError` when a file holds other tensors than moments of these parameters; `FileError`.
  init(_ checkpoint: Checkpoint, _ layout: ParameterLayout) throws {
    for name in checkpoint.files.map(\.name) {
      if name == MomentFiles.whole {
        let file = try checkpoint.tensors(name, expecting: MomentFiles.wholeTensors(layout))
        pieces += layout.entries.map { Piece(range: $0.range, file: file, name: $0.name) }
      } else if MomentFiles.isShard(name) {
        pieces += try Self.pieces(checkpoint.tensors(name), layout)
      }
    }
    pieces.sort { $0.range.lowerBound < $1.range.lowerBound }
  }

  /// What can be read, ascending, joined where it touches.
  var ranges: [Range<Int>] {
    var ranges: [Range<Int>] = []
    for range in pieces.map(\.range) {
      if let last = ranges.last, last.upperBound == range.lowerBound {
        ranges[ranges.count - 1] = last.lowerBound..<range.upperBound
      } else {
        ranges.append(range)
      }
    }
    return ranges
  }

  /// Reads the moments of a range of the arena that lies within one of `ranges`.
  func read(
    _ moment: AdamWOptimizer.Moment, _ range: Range<Int>, into values: UnsafeMutableBufferPointer<Float>
  ) throws {
    for piece in pieces where piece.range.overlaps(range) {
      let part = piece.range.clamped(to: range)
      try piece.file.read(
        MomentFiles.prefix(moment) + piece.name, from: part.lowerBound - piece.range.lowerBound,
        into: UnsafeMutableBufferPointer(
          rebasing: values[part.lowerBound - range.lowerBound..<part.upperBound - range.lowerBound]))
    }
  }

  /// What a share says it holds.
  private static func pieces(_ file: SafetensorsFile, _ layout: ParameterLayout) throws(CheckpointError) -> [Piece] {
    let entries = Dictionary(uniqueKeysWithValues: layout.entries.map { (Array($0.name.utf8), $0) })
    var pieces: [Piece] = []
    var strange: [String] = []
    let (first, second) = (MomentFiles.prefix(.first), MomentFiles.prefix(.second))
    for tensor in file.tensors where !tensor.name.utf8.starts(with: second.utf8) {
      let name = String(tensor.name.dropFirst(first.count))
      guard tensor.name.utf8.starts(with: first.utf8), name.utf8.last == UInt8(ascii: "]"),
        let bracket = name.utf8.lastIndex(of: UInt8(ascii: "[")), name.utf8[bracket...].count <= 64,
        let entry = entries[Array(name[..<bracket].utf8)],
        let range = range(name[bracket...]), range.upperBound <= entry.count, tensor.shape == [range.count],
        file.info(second + name)?.shape == tensor.shape
      else {
        strange.append(tensor.name)
        continue
      }
      pieces.append(
        Piece(range: entry.offset + range.lowerBound..<entry.offset + range.upperBound, file: file, name: name))
    }
    if strange.isEmpty, file.tensors.count != 2 * pieces.count {
      strange = file.tensors.map(\.name).filter { file.info(first + $0.dropFirst(second.count)) == nil }
    }
    guard strange.isEmpty else { throw .unexpectedTensors(path: file.path, names: strange) }
    return pieces
  }

  /// `[BEGIN:END]`.
  private static func range(_ text: Substring) -> Range<Int>? {
    let ends = text.dropFirst().dropLast().split(separator: ":", omittingEmptySubsequences: false).map { Int($0) }
    guard ends.count == 2, let begin = ends[0], let end = ends[1], begin >= 0, begin < end else { return nil }
    return begin..<end
  }
}
