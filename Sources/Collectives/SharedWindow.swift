internal import CMPI

/// Memory of a node that all members of a group read and write: one segment a member, filled by that member alone.
///
/// What orders them is `barrier()`, and nothing else.
package final class SharedWindow: @unchecked Sendable {
  /// Size of each segment.
  package let segmentBytes: Int
  private let handle: OpaquePointer

  fileprivate init(_ handle: OpaquePointer, segmentBytes: Int) {
    self.handle = handle
    self.segmentBytes = segmentBytes
  }

  /// A member's segment; begins at a page.
  package func segment(of member: Int) -> UnsafeMutableRawPointer { orpo_mpi_window_segment(handle, Int32(member)) }

  /// Waits until all members are here; what any of them wrote before, all can read after. The thread spins for some
  /// microseconds, then leaves its core to others.
  package func barrier() { orpo_mpi_window_barrier(handle) }
}

/// Why a node has no shared window; the same on all members of the group.
package struct NoWindow: Error, CustomStringConvertible, Equatable {
  package let description: String
}

extension RankGroup {
  /// Makes a window, or says why there can be none. A collective call of the group, whose members must be on one node.
  ///
  /// Segments have `bytes` each, or half of that, a quarter and so on down to `leastBytes`, whichever first leaves the
  /// node's folder for shared memory some room: filling it up would end other processes, and this one.
  /// - Throws: `MPIError` when the ranks can no longer talk at all.
  package func sharedWindow(bytes: Int, leastBytes: Int) throws(MPIError) -> Result<SharedWindow, NoWindow> {
    var room = 0
    let directory = cText { room = Int(orpo_mpi_window_room($0, $1)) }
    // The leader's view counts: the others see the same folder, maybe a moment later.
    room = try smallest(rank == 0 ? room : Int.max)
    var segment = bytes
    func needed(_ segment: Int) -> Int { (segment + 1 << 20) * size * 5 / 4 + 4 << 20 }
    while segment > leastBytes, needed(segment) > room { segment /= 2 }
    guard needed(segment) <= room else {
      return .failure(
        NoWindow(
          description: "\(directory) has \(room >> 20) MB left, \(needed(segment) >> 20) MB are needed"))
    }
    var window: OpaquePointer?
    do {
      try communicator.calls { [handle] _, call in orpo_mpi_window_create(handle, Int64(segment), &window, call) }
    } catch {
      return .failure(NoWindow(description: error.description))
    }
    guard let window else { preconditionFailure("a window was made without an error and without a window") }
    return .success(SharedWindow(window, segmentBytes: segment))
  }
}
