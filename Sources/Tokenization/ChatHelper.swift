internal import Foundation
internal import JSON

/// The running helper process and the socket to it. Ends with this object.
final class ChatHelper {
  struct Settings: Sendable {
    var python: String
    var clock: String?
    var timeLimit: Double
    var memoryLimit: Int
    /// Bytes of UTF-8 that one render may make.
    var outputLimit: Int

    /// Bytes of a reply: every byte of the text could be written as six.
    var replyLimit: Int { 6 * outputLimit + (1 << 16) }
  }

  private let settings: Settings
  private let process: pid_t
  private let socket: Int32
  private var received: [UInt8] = []
  private var consumed = 0
  /// Whether the kernel took the helper's filter of system calls.
  private(set) var systemCallsAreFiltered = false
  private var knownTemplates: [[UInt8]: Int] = [:]

  init(_ settings: Settings) throws {
    self.settings = settings
    (process, socket) = try Self.spawn(settings.python)
    let hello: JSONValue = [
      "parent": .integer(Int(getpid())), "now": settings.clock.map { .string($0) } ?? .null,
      "seconds": .double(settings.timeLimit), "memory": .integer(settings.memoryLimit),
      "output": .integer(settings.outputLimit),
    ]
    var output = Array((hello.serialized() + "\n").utf8)
    var written = 0
    var patience = 60.0
    while true {
      try exchange(&output, &written, &patience)
      if let reply = nextReply() {
        if let reason = reply["fatal"]?.string { throw Self.unusable(settings.python, reason) }
        systemCallsAreFiltered = reply["filtered"]?.bool ?? false
        return
      }
      if ended { throw Self.unusable(settings.python, "it ended at once") }
      if patience <= 0 { throw Self.unusable(settings.python, "it did not answer within a minute") }
    }
  }

  deinit {
    close(socket)
    _ = endingSignal()
  }

  /// Ends the process and says which signal ended it.
  private func endingSignal() -> Int32 {
    if let known = signalAtEnd { return known }
    // Nothing happens to one that has ended already.
    kill(process, SIGKILL)
    var status: Int32 = 0
    waitpid(process, &status, 0)
    signalAtEnd = status & 0x7F
    return status & 0x7F
  }

  private var signalAtEnd: Int32?

  /// Renders requests in order, appending to `results`. Returns what to report for the next request when the helper was
  /// lost over it.
  /// - Parameter stopsLeft: how many more renders may be stopped at a limit; at 0 it returns at once.
  func render(
    _ requests: ArraySlice<ChatRequest>, _ results: inout [Result<String, ChatTemplateError>], stopsLeft: inout Int
  ) throws -> ChatTemplateError? {
    var output: [UInt8] = []
    var written = 0
    var remaining = requests.count
    var pending = requests
    // The helper keeps the limit itself; this is for what Python cannot interrupt.
    var patience = settings.timeLimit + 2
    while remaining > 0 {
      while let request = pending.first, output.count - written < 1 << 16 {
        if written == output.count { (output, written) = ([], 0) }
        append(request, to: &output)
        pending = pending.dropFirst()
      }
      try exchange(&output, &written, &patience)
      while remaining > 0, let reply = nextReply() {
        let result = Self.result(reply)
        results.append(result)
        remaining -= 1
        if case .failure(let error) = result, error.isLimit {
          stopsLeft -= 1
          if stopsLeft == 0 { return nil }
        }
        patience = settings.timeLimit + 2
      }
      if remaining == 0 { break }
      if ended {
        // The helper's timer of processor time, for what Python would not be interrupted in.
        if endingSignal() == SIGPROF { return Self.outOfTime(settings) }
        return ChatTemplateError(type: "HelperEnded", message: "ended the Python process it is rendered in")
      }
      if received.count - consumed > settings.replyLimit {
        return ChatTemplateError(
          type: "TooLong", message: "the helper sent more than \(settings.replyLimit) bytes for one text")
      }
      if patience <= 0 { return Self.outOfTime(settings) }
    }
    return nil
  }

  private static func outOfTime(_ settings: Settings) -> ChatTemplateError {
    ChatTemplateError(type: "TimeoutError", message: "took more than \(settings.timeLimit) seconds")
  }

  private func append(_ request: ChatRequest, to output: inout [UInt8]) {
    let key = Array(request.template.utf8)
    let number = knownTemplates[key] ?? knownTemplates.count
    if knownTemplates[key] == nil {
      knownTemplates[key] = number
      let definition: JSONValue = ["template": .integer(number), "source": .string(request.template)]
      output.append(contentsOf: (definition.serialized() + "\n").utf8)
    }
    output.append(contentsOf: request.line(template: number).utf8)
  }

  private static func result(_ reply: JSONValue) -> Result<String, ChatTemplateError> {
    if let text = reply["text"]?.string { return .success(text) }
    return .failure(
      ChatTemplateError(
        type: reply["error"]?.string ?? "HelperError", message: reply["message"]?.string ?? reply.serialized()))
  }

  private static func unusable(_ python: String, _ reason: String) -> ChatRendererError {
    ChatRendererError(
      description: "chat templates need Python with Jinja2, and \(python) cannot be used: \(reason); install it with "
        + "apt-get install python3-jinja2, or name another Python in ORPO_DIST_PYTHON")
  }

  // MARK: the socket

  private var ended = false

  /// Writes what it can of `output` and reads what there is, waiting until something moves, for a second at most.
  ///
  /// - Parameter patience: seconds left to wait for the helper, less what was waited. Time in which this process was
  ///   stopped, and the helper with it, does not count, nor does a clock that is set.
  private func exchange(_ output: inout [UInt8], _ written: inout Int, _ patience: inout Double) throws {
    let wanted = Int16(POLLIN) | (written < output.count ? Int16(POLLOUT) : 0)
    var poll = pollfd(fd: socket, events: wanted, revents: 0)
    let slice = max(0, min(1, patience))
    let began = ProcessInfo.processInfo.systemUptime
    let moved = Glibc.poll(&poll, 1, Int32(slice * 1000) + 1)
    patience -= min(ProcessInfo.processInfo.systemUptime - began, slice + 0.1)
    guard moved > 0 else { return }
    if poll.revents & Int16(POLLOUT) != 0, written < output.count {
      let count = output[written...].withUnsafeBytes { send(socket, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
      if count > 0 { written += count }
    }
    if poll.revents & Int16(POLLIN | POLLHUP | POLLERR) != 0 {
      let count = withUnsafeTemporaryAllocation(byteCount: 1 << 16, alignment: 16) { buffer in
        let count = recv(socket, buffer.baseAddress, buffer.count, 0)
        if count > 0 { received.append(contentsOf: buffer[..<count]) }
        return count
      }
      if count == 0 || count < 0 && errno != EAGAIN && errno != EINTR { ended = true }
    }
  }

  /// The next whole line received, parsed.
  private func nextReply() -> JSONValue? {
    guard let end = received[searched...].firstIndex(of: 0x0A) else {
      searched = received.count
      return nil
    }
    let line = received[consumed..<end]
    consumed = end + 1
    searched = consumed
    defer {
      if consumed == received.count || consumed > 1 << 20 {
        received.removeFirst(consumed)
        (consumed, searched) = (0, 0)
      }
    }
    return (try? JSONValue(parsing: line)) ?? .null
  }

  /// No line end lies before this index.
  private var searched = 0
}

extension ChatHelper {
  /// Starts Python on the helper script, its input and output joined to the socket returned. No shell; only a few
  /// variables pass.
  private static func spawn(_ python: String) throws -> (process: pid_t, socket: Int32) {
    var ends: (Int32, Int32) = (-1, -1)
    let made = withUnsafeMutableBytes(of: &ends) {
      socketpair(
        AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0, $0.bindMemory(to: Int32.self).baseAddress)
    }
    guard made == 0 else {
      throw ChatRendererError(description: "no socket to the Python helper: \(String(cString: strerror(errno)))")
    }
    defer { close(ends.1) }
    _ = fcntl(ends.0, F_SETFL, O_NONBLOCK)
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_adddup2(&actions, ends.1, 0)
    posix_spawn_file_actions_adddup2(&actions, ends.1, 1)
    // What Python would say there could come from a template.
    posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0)
    let environment = ProcessInfo.processInfo.environment
    let passed = ["PATH", "TZ", "LD_LIBRARY_PATH"].compactMap { name in environment[name].map { "\(name)=\($0)" } }
    // -I: no user's or current folder's modules.
    let code = withCStrings([python, "-I", "-c", ChatHelperScript.source]) { arguments in
      withCStrings(passed + ["LC_ALL=C.UTF-8"]) { environment in
        var process: pid_t = 0
        let code = posix_spawnp(&process, python, &actions, nil, arguments, environment)
        return code == 0 ? Int64(process) : -Int64(code)
      }
    }
    guard code > 0 else {
      close(ends.0)
      throw unusable(python, "it cannot be started (\(String(cString: strerror(Int32(-code)))))")
    }
    return (pid_t(code), ends.0)
  }
}

/// Passes strings as C wants argument lists: a null-terminated array of pointers.
private func withCStrings<Result>(
  _ strings: [String], _ body: (UnsafePointer<UnsafeMutablePointer<CChar>?>) -> Result
) -> Result {
  var pointers = strings.map { strdup($0) } + [nil]
  defer { for pointer in pointers { free(pointer) } }
  return pointers.withUnsafeMutableBufferPointer { buffer in
    guard let base = buffer.baseAddress else { preconditionFailure("an array with a null at the end is not empty") }
    return body(UnsafePointer(base))
  }
}
