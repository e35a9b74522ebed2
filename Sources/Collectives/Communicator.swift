internal import CMPI
import Glibc

/// The ranks of this job and what they do together. One per process.
///
/// Every collective blocks and must be called by all ranks in the same order with the same sizes. One thread at a
/// time may call; what another thread does meanwhile goes through a `RankGroup`.
package final class Communicator: @unchecked Sendable {
  package let rank: Int
  package let worldSize: Int
  /// Position among the ranks that share this node's memory, and their number.
  package let localRank: Int
  package let localSize: Int
  /// World rank of the first rank on this node: a name for the node that is the same on all its ranks.
  package let nodeLeader: Int
  package let hostName: String
  package let threadLevel: ThreadLevel
  /// First line of what the MPI library says about itself.
  package let libraryVersion: String
  /// `nil` after `finish()`.
  private var job: OpaquePointer?

  package enum ThreadLevel: String, Sendable {
    case single, funneled, serialized, multiple
  }

  package var isRoot: Bool { rank == 0 }

  /// Initialises MPI. Without `mpirun` the world has one rank.
  ///
  /// - Throws: `MPIError`; also when a launcher started several processes that do not see each other, because each
  ///   of them would then train alone and write over the others' files.
  package static func start() throws(MPIError) -> Communicator {
    let host = processorName()
    guard orpo_mpi_is_running() == 0 else {
      throw MPIError(
        call: "MPI_Init_thread", code: 0, text: "MPI was started before in this process", rank: -1, host: host)
    }
    var job: OpaquePointer?
    var place = orpo_mpi_place()
    var call: UnsafePointer<CChar>?
    let code = orpo_mpi_start(&job, &place, &call)
    guard code == ORPO_MPI_SUCCESS, let job else {
      throw MPIError(
        call: call.map { String(cString: $0) } ?? "MPI_Init_thread", code: code, text: MPIError.text(of: code),
        rank: -1,
        host: host)
    }
    if place.world_size == 1, let launched = processesLaunchedElsewise(), launched > 1 {
      throw MPIError(
        call: "MPI_Init_thread", code: 0,
        text: "the launcher started \(launched) processes, but this one sees a world of 1 rank; "
          + "start them with Open MPI's mpirun, or with srun --mpi=pmix", rank: 0, host: host)
    }
    return Communicator(job: job, place: place, host: host)
  }

  private init(job: OpaquePointer, place: orpo_mpi_place, host: String) {
    self.job = job
    rank = Int(place.rank)
    worldSize = Int(place.world_size)
    localRank = Int(place.local_rank)
    localSize = Int(place.local_size)
    nodeLeader = Int(place.node_leader)
    hostName = host
    threadLevel =
      switch place.thread_level {
      case ORPO_MPI_THREAD_MULTIPLE: .multiple
      case ORPO_MPI_THREAD_SERIALIZED: .serialized
      case ORPO_MPI_THREAD_FUNNELED: .funneled
      default: .single
      }
    let version = cText { _ = orpo_mpi_library_version($0, $1) }
    libraryVersion = version.split(whereSeparator: \.isNewline).first.map(String.init) ?? version
  }

  /// Bytes one MPI call moves at most; larger transfers go in pieces, and all ranks must set the same. 256 MiB unless
  /// set, and at most.
  package func limitPieces(toBytes bytes: Int) throws(MPIError) {
    try call("orpo_mpi_limit_pieces") { job in
      orpo_mpi_limit_pieces(job, Int64(bytes))
      return ORPO_MPI_SUCCESS
    }
  }

  /// Waits until every rank has arrived.
  package func barrier() throws(MPIError) {
    try call("MPI_Barrier") { orpo_mpi_barrier($0) }
  }

  /// Finalises MPI; every rank calls it, last of all. A second call does nothing.
  package func finish() throws(MPIError) {
    guard let job else { return }
    self.job = nil
    var call: UnsafePointer<CChar>?
    let code = orpo_mpi_finish(job, &call)
    guard code == ORPO_MPI_SUCCESS else {
      throw failure(call.map { String(cString: $0) } ?? "MPI_Finalize", code)
    }
  }

  /// Ends every process of the job with `code`, from whatever they are doing. Never returns, even when MPI hangs or
  /// is gone.
  package func abort(code: Int32) -> Never {
    // MPI_Abort talks to the launcher; when that no longer listens, the alarm's default action still ends this process.
    signal(SIGALRM, SIG_DFL)
    alarm(10)
    if orpo_mpi_is_running() == 1 { _ = orpo_mpi_abort(job, code) }
    _exit(code)
  }

  /// Makes one call and turns its code into an error.
  func call(_ name: String, _ body: (OpaquePointer) -> Int32) throws(MPIError) {
    guard let job else {
      throw MPIError(call: name, code: 0, text: "called after MPI was finalised", rank: rank, host: hostName)
    }
    let code = body(job)
    guard code == ORPO_MPI_SUCCESS else { throw failure(name, code) }
  }

  /// Makes several calls, which name the one that a code belongs to, and turns a code into an error.
  func calls(
    _ body: (OpaquePointer, UnsafeMutablePointer<UnsafePointer<CChar>?>) -> Int32
  ) throws(MPIError) {
    guard let job else {
      throw MPIError(call: "MPI", code: 0, text: "called after MPI was finalised", rank: rank, host: hostName)
    }
    var name: UnsafePointer<CChar>?
    let code = body(job, &name)
    guard code == ORPO_MPI_SUCCESS else { throw failure(name.map { String(cString: $0) } ?? "MPI", code) }
  }

  private func failure(_ call: String, _ code: Int32) -> MPIError {
    MPIError(call: call, code: code, text: MPIError.text(of: code), rank: rank, host: hostName)
  }

  /// The host name is asked of the system: it is needed before MPI is up, and MPI gives the same.
  private static func processorName() -> String {
    cText { _ = gethostname($0, Int($1) - 1) }
  }

  /// How many processes a launcher other than Open MPI's says it started: Slurm's step, or MPICH's launcher.
  private static func processesLaunchedElsewise() -> Int? {
    func number(_ name: String) -> Int? { getenv(name).flatMap { Int(String(cString: $0)) } }
    if getenv("OMPI_COMM_WORLD_SIZE") != nil { return nil }
    return number("SLURM_STEP_NUM_TASKS") ?? number("PMI_SIZE")
  }
}
