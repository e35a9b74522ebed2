import Collectives
import Glibc

/// A named check that every rank runs; it fails by throwing on any rank.
struct Check: Sendable {
  let name: String
  let body: @Sendable (Communicator) throws -> Void

  init(_ name: String, _ body: @escaping @Sendable (Communicator) throws -> Void) {
    self.name = name
    self.body = body
  }
}

/// Why a check failed on this rank.
struct Unexpected: Error, CustomStringConvertible {
  let description: String
  init(_ description: String) { self.description = description }
}

func expect(_ condition: Bool, _ message: @autoclosure () -> String) throws {
  if !condition { throw Unexpected(message()) }
}

func expectEqual<T: Equatable>(_ value: T, _ expected: T, _ what: String) throws {
  if value != expected { throw Unexpected("\(what) is \(value), not \(expected)") }
}

/// Runs the checks in order on all ranks and prints the result on rank 0.
///
/// A check must leave the ranks in step even when it fails on some: it does all its collective calls before it
/// compares.
/// - Returns: whether all checks passed on all ranks.
func run(_ checks: [Check], on communicator: Communicator) throws -> Bool {
  var passed = 0
  var failed = 0
  for check in checks {
    var why = ""
    do {
      try check.body(communicator)
    } catch {
      why = "rank \(communicator.rank): \(error)"
    }
    let reasons = try communicator.allGather(why).filter { !$0.isEmpty }
    if reasons.isEmpty {
      passed += 1
    } else {
      failed += 1
    }
    if communicator.isRoot {
      print(reasons.isEmpty ? "ok \(check.name)" : "FAILED \(check.name): \(reasons.joined(separator: "; "))")
      fflush(nil)
    }
  }
  if communicator.isRoot {
    print("\(communicator.worldSize) ranks on \(communicator.libraryVersion), thread level \(communicator.threadLevel)")
    print("\(passed) passed, \(failed) failed")
  }
  return failed == 0
}
