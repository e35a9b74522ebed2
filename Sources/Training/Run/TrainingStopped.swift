import Collectives

/// Why a run ended before its last step.
package struct TrainingStopped: RaisedOnEveryRank, CustomStringConvertible {
  /// What a scheduler or a script takes as "start me again" (EX_TEMPFAIL of <sysexits.h>).
  package static let startAgain: Int32 = 75
  /// Another start of the run has taken its place: this one is not to be started again.
  package static let takenOver: Int32 = 76

  package var description: String
  package var exitCode: Int32 = 1
  /// Whether it was to end by a signal; otherwise something is wrong.
  package var wasAsked = false
}
