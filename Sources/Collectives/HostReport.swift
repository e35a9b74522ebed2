internal import CMPI
import Glibc

/// What one rank can use of its host.
package struct HostReport: Sendable, Equatable {
  package let host: String
  /// Logical cores this process may run on, as a list such as `0-3,8`.
  package let binding: String
  /// Number of cores in `binding`, and of cores on line in the whole host.
  package let coresVisible: Int
  package let coresOnline: Int

  /// The report of the calling thread's binding, which threads started later inherit.
  package static func current(host: String) -> HostReport {
    let cores = boundCores()
    return HostReport(
      host: host, binding: ranges(cores), coresVisible: cores.count,
      coresOnline: Int(sysconf(Int32(_SC_NPROCESSORS_ONLN))))
  }

  /// Logical cores of the calling thread's affinity mask, ascending.
  package static func boundCores() -> [Int] {
    // The kernel refuses masks smaller than its own; 8 KiB hold 65536 cores.
    withUnsafeTemporaryAllocation(byteCount: 8192, alignment: 64) { bytes in
      let mask = bytes.bindMemory(to: UInt8.self)
      guard orpo_mpi_core_binding(mask.baseAddress, Int64(mask.count)) == 0 else {
        return Array(0..<max(Int(sysconf(Int32(_SC_NPROCESSORS_ONLN))), 1))
      }
      return (0..<mask.count * 8).filter { mask[$0 / 8] >> ($0 % 8) & 1 == 1 }
    }
  }

  /// Of cores that are hardware threads of one physical core only the first: products gain nothing from the others.
  package static func physical(_ cores: [Int]) -> [Int] {
    var seen: Set<String> = []
    return cores.filter { core in
      guard let siblings = siblings(of: core) else { return true }
      return seen.insert(siblings).inserted
    }
  }

  /// What `Communicator.coresOfThisRank` says on `rank`, of the nodes and the physical cores that ranks are bound to.
  package static func share(of rank: Int, nodes: [Int], cores: [[Int]]) -> (count: Int, own: [Int]) {
    let neighbours = nodes.indices.filter { nodes[$0] == nodes[rank] }.map { Set(cores[$0]) }
    let users = cores[rank].map { core in neighbours.count { $0.contains(core) } }
    // The sum of thirds may fall short of a whole number by rounding.
    let share = users.reduce(1e-6) { $0 + 1 / Double($1) }
    return (max(Int(share), 1), users.contains { $0 > 1 } ? [] : cores[rank])
  }

  /// Linux's list of the hardware threads that share a core with `core`, such as `0,64`.
  private static func siblings(of core: Int) -> String? {
    guard let file = fopen("/sys/devices/system/cpu/cpu\(core)/topology/thread_siblings_list", "r") else { return nil }
    defer { fclose(file) }
    return withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { line in
      guard let start = line.baseAddress, fgets(start, Int32(line.count), file) != nil else { return nil }
      return String(cString: start)
    }
  }

  /// `[0, 1, 2, 3, 8]` as `0-3,8`.
  package static func ranges(_ cores: [Int]) -> String {
    var parts: [String] = []
    var index = 0
    while index < cores.count {
      let first = cores[index]
      var last = first
      while index + 1 < cores.count, cores[index + 1] == last + 1 {
        index += 1
        last = cores[index]
      }
      parts.append(first == last ? "\(first)" : "\(first)-\(last)")
      index += 1
    }
    return parts.joined(separator: ",")
  }
}

extension Communicator {
  package var hostReport: HostReport { .current(host: hostName) }

  /// How many threads this rank can run without sharing physical cores with the other ranks of its node: all cores of
  /// its binding when no other rank is bound to them, its part of them otherwise, at least 1; and the cores themselves
  /// when no other rank is bound to any, else none. A collective call.
  package func coresOfThisRank() throws(MPIError) -> (count: Int, own: [Int]) {
    let mine = HostReport.physical(HostReport.boundCores())
    let all = try allGather("\(nodeLeader) " + mine.map(String.init).joined(separator: " "))
    let numbers = all.map { $0.split(separator: " ").compactMap { Int($0) } }
    return HostReport.share(
      of: rank, nodes: numbers.map { $0.first ?? -1 }, cores: numbers.map { Array($0.dropFirst()) })
  }
}
