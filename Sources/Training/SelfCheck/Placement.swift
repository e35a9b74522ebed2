import Collectives
import Kernels

/// Which rank runs where, on which cores, with how many threads; the same on every rank.
struct Placement {
  struct Rank: Equatable {
    var rank: Int
    /// World rank of the first rank on the same node: host names may repeat, this does not.
    var node: Int
    var host: String
    var cores: [Int]
    var coresOnline: Int
    var threads: Int
  }

  var ranks: [Rank]

  init(ranks: [Rank]) { self.ranks = ranks }

  /// A collective call.
  init(_ job: Job) throws {
    let communicator = job.communicator
    let cores = HostReport.boundCores()
    let fields = [communicator.nodeLeader, communicator.hostReport.coresOnline, job.pool.threadCount] + cores
    let all = try communicator.allGather(fields.map(String.init).joined(separator: " "))
    let hosts = try communicator.allGather(communicator.hostName)
    ranks = all.enumerated().map { rank, text in
      let numbers = text.split(separator: " ").compactMap { Int($0) }
      return Rank(
        rank: rank, node: numbers[0], host: hosts[rank], cores: Array(numbers.dropFirst(3)), coresOnline: numbers[1],
        threads: numbers[2])
    }
  }

  var hosts: [String] { ranks.map(\.host) }
  /// Each node's ranks, in the order of their first.
  var nodes: [[Rank]] { Dictionary(grouping: ranks, by: \.node).sorted { $0.key < $1.key }.map(\.value) }
}

// MARK: - Table

extension Placement {
  /// More ranks than this are shown by host.
  static let longestTable = 16

  /// One line a rank, or one for all ranks of a host that are alike when there are many.
  func table() -> String {
    let isLong = ranks.count > Self.longestTable
    let groups = isLong ? nodes.flatMap(Self.alike) : ranks.map { [$0] }
    let rows = groups.map { group in
      let cores = Set(group.flatMap(\.cores)).sorted()
      return [
        HostReport.ranges(group.map(\.rank)), group[0].host, Self.shortened(HostReport.ranges(cores)),
        "\(group[0].threads)", "\(group[0].cores.count)", "\(group[0].coresOnline)",
      ]
    }
    let header = [isLong ? "ranks" : "rank", "host", "cores", isLong ? "threads each" : "threads", "visible", "online"]
    return TextTable(rows: [header] + rows, rightFrom: 3).text
  }

  /// Ranks of one node that have the same number of threads and cores.
  private static func alike(_ node: [Rank]) -> [[Rank]] {
    Dictionary(grouping: node) { [$0.threads, $0.cores.count] }.values.sorted { $0[0].rank < $1[0].rank }
  }

  private static func shortened(_ text: String, to width: Int = 28) -> String {
    text.count <= width ? text : text.prefix(width - 3) + "..."
  }
}

// MARK: - Remarks

extension Placement {
  /// What costs speed in how ranks were started, hosts with the same remark together.
  func remarks() -> [String] {
    var hosts: [(remark: String, names: [String])] = []
    for node in nodes {
      guard let remark = Self.crowded(node) ?? Self.idle(node) else { continue }
      if let index = hosts.firstIndex(where: { $0.remark == remark }) {
        hosts[index].names.append(node[0].host)
      } else {
        hosts.append((remark, [node[0].host]))
      }
    }
    return hosts.map { remark, names in
      let more = names.count > 3 ? " and \(names.count - 3) more" : ""
      return remark.replacing("HOSTS", with: names.prefix(3).joined(separator: ", ") + more)
    }
  }

  /// Threads that have to take turns on a core: more of them than cores, or ranks bound to the same core.
  private static func crowded(_ node: [Rank]) -> String? {
    var load: [Int: Double] = [:]
    for rank in node {
      for core in rank.cores { load[core, default: 0] += Double(rank.threads) / Double(rank.cores.count) }
    }
    // The sum of thirds may exceed 1 by rounding.
    let shared = Set(load.filter { $0.value > 1 + 1e-6 }.keys)
    guard !shared.isEmpty else { return nil }
    let involved = node.filter { !shared.isDisjoint(with: $0.cores) }
    let threads = involved.reduce(0) { $0 + $1.threads }
    return """
      warning: HOSTS: \(SelfCheck.counted(involved.count, "rank")) with \(SelfCheck.counted(threads, "thread")) \
      share \(SelfCheck.counted(shared.count, "core")) (\(shortened(HostReport.ranges(shared.sorted()))))
               Start at most as many ranks as cores and bind each to its own:
               mpirun --map-by ppr:RANKS:node:PE=CORES
      """
  }

  /// Cores without a thread. They may belong to other jobs, so this is no warning.
  private static func idle(_ node: [Rank]) -> String? {
    let threads = node.reduce(0) { $0 + $1.threads }
    let online = node[0].coresOnline
    guard threads < online else { return nil }
    return """
      note: HOSTS: \(SelfCheck.counted(threads, "thread")) for \(online) cores. If all are for this job:
            mpirun --map-by ppr:RANKS:node:PE=CORES
            or srun --cpus-per-task=CORES --cpu-bind=cores
      """
  }
}
