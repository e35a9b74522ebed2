import Glibc

/// An error that every rank throws alike, because all ranks came to it together: one line about it is enough.
package protocol RaisedOnEveryRank: Error {
  /// Of every rank.
  var exitCode: Int32 { get }
}

extension RaisedOnEveryRank {
  package var exitCode: Int32 { 1 }
}

extension Communicator {
  /// Takes the whole job down: one line `orpo-dist: rank R of N on HOST: cause` on standard error, then `abort`.
  ///
  /// Ranks that wait in a collective are ended by the launcher within seconds, and the launcher's exit code is not
  /// zero.
  package func fail(_ error: any Error, code: Int32 = 1) -> Never {
    // Rank 0 speaks for all and ends them meanwhile; if it does not, every rank says it itself.
    if error is any RaisedOnEveryRank, !isRoot { sleep(3) }
    say("orpo-dist: rank \(rank) of \(worldSize) on \(hostName): \(error)")
    // The launcher forwards the line and learns of the abort on different ways: let the line go first.
    if worldSize > 1 { usleep(200_000) }
    abort(code: code)
  }

  /// Writes a line to standard error, from whatever thread.
  func say(_ text: String) {
    let words = PlainText.message(text).split(whereSeparator: \.isNewline).joined(separator: "; ")
    let line = Array("\(words)\n".utf8)
    // One write, so that lines of several ranks do not mix.
    _ = line.withUnsafeBytes { write(STDERR_FILENO, $0.baseAddress, $0.count) }
  }
}
