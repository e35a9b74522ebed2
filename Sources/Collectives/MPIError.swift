internal import CMPI

/// A call into MPI that did not succeed, with what MPI says about it and where it happened.
package struct MPIError: Error, CustomStringConvertible, Equatable {
  /// The MPI function, such as `MPI_Allreduce`.
  package let call: String
  /// MPI's return code; 0 when the fault was found before or after MPI itself was asked.
  package let code: Int32
  package let text: String
  /// -1 while the rank is not known yet.
  package let rank: Int
  package let host: String

  package init(call: String, code: Int32, text: String, rank: Int, host: String) {
    self.call = call
    self.code = code
    self.text = text
    self.rank = rank
    self.host = host
  }

  package var description: String {
    let place = rank < 0 ? "host \(host)" : "rank \(rank), host \(host)"
    return "\(call) failed on \(place): \(text)" + (code == 0 ? "" : " (code \(code))")
  }
}

extension MPIError {
  /// MPI's own sentence for `code`.
  static func text(of code: Int32) -> String {
    cText { orpo_mpi_error_text(code, $0, $1) }
  }
}

/// Text that a C function writes into a buffer of the given capacity, zero-terminated.
func cText(_ write: (UnsafeMutablePointer<CChar>, Int64) -> Void) -> String {
  withUnsafeTemporaryAllocation(of: CChar.self, capacity: 4096) { buffer in
    guard let start = buffer.baseAddress else { return "" }
    start.initialize(repeating: 0, count: buffer.count)
    write(start, Int64(buffer.count))
    return String(cString: start)
  }
}
