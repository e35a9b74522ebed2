internal import Foundation
package import JSON
internal import Synchronization

/// Renders chat templates with Jinja2, as transformers does, in a helper process running Python.
///
/// Start it before MPI_Init and from a thread that lives on (the helper ends with the thread that started it): starting
/// processes later is not safe with every network. Not needed when no text is rendered. May be used from several
/// threads.
package final class ChatRenderer: Sendable {
  private let state: Mutex<State>
  private let settings: ChatHelper.Settings

  private init(_ settings: ChatHelper.Settings) throws {
    state = Mutex(State(helper: nil))
    self.settings = settings
    try state.withLock { $0.helper = try ChatHelper(settings) }
  }

  deinit { stop() }

  /// Starts the helper with the Python that `ORPO_DIST_PYTHON` names, else /usr/bin/python3, else `python3` on the
  /// path.
  /// - Parameters:
  ///   - clock: what templates take for now (ISO 8601, without zone); the real time when nil.
  ///   - timeLimit: seconds for one render.
  ///   - memoryLimit: address space of the helper in bytes.
  ///   - outputLimit: bytes of UTF-8 that one render may make.
  /// - Throws: `ChatRendererError` saying what to install.
  package static func start(
    clock: String? = nil, timeLimit: Double = 10, memoryLimit: Int = 1 << 29, outputLimit: Int = 32 << 20
  ) throws -> ChatRenderer {
    let settings = ChatHelper.Settings(
      python: try python(), clock: clock, timeLimit: timeLimit, memoryLimit: memoryLimit, outputLimit: outputLimit)
    return try ChatRenderer(settings)
  }

  /// Renders one chat.
  /// - Throws: `ChatTemplateError` with what the template raised, `ChatRendererError` when the helper cannot work.
  package func render(
    template: String, messages: JSONValue, addGenerationPrompt: Bool = false, continueFinalMessage: Bool = false,
    variables: [String: String] = [:], tools: JSONValue? = nil, extra: JSONObject = JSONObject()
  ) throws -> String {
    let request = ChatRequest(
      template: template, messages: messages, addGenerationPrompt: addGenerationPrompt,
      continueFinalMessage: continueFinalMessage, variables: variables, tools: tools, extra: extra)
    return try render([request])[0].get()
  }

  /// Renders many chats, in order; one that fails does not stop the others.
  ///
  /// One conversation may be too much for an honest template; a template that is stopped at a limit again and again
  /// would keep a run waiting for hours and is an error.
  package func render(_ requests: [ChatRequest]) throws -> [Result<String, ChatTemplateError>] {
    try state.withLock { state in
      var results: [Result<String, ChatTemplateError>] = []
      while results.count < requests.count {
        let current: ChatHelper
        if let running = state.helper { current = running } else { current = try ChatHelper(settings) }
        state.helper = current
        let ended = try current.render(requests[results.count...], &results, stopsLeft: &state.stopsLeft)
        if let ended {
          // The render under way took the helper with it; the others get a new one.
          state.helper = nil
          state.stopsLeft -= 1
          results.append(.failure(ended))
        }
        guard state.stopsLeft <= 0 else { continue }
        state = State(helper: nil)
        let origin = requests[results.count - 1].templateOrigin.map { "\($0): " } ?? ""
        guard case .failure(let last)? = results.last else { continue }
        throw ChatRendererError(
          description: "\(origin)the chat template was stopped \(State.mostStops) times, the last time because it "
            + "\(last.message); look at the template, or use another model folder")
      }
      return results
    }
  }

  private struct State {
    static let mostStops = 3
    var helper: ChatHelper?
    /// How many more renders may be stopped at a limit.
    var stopsLeft = mostStops
  }

  /// Whether the helper runs under a filter of system calls, as it does wherever the kernel allows that.
  package var systemCallsAreFiltered: Bool { state.withLock { $0.helper?.systemCallsAreFiltered ?? false } }

  /// Ends the helper. A later render starts it again.
  package func stop() { state.withLock { $0.helper = nil } }

  private static func python() throws -> String {
    let environment = ProcessInfo.processInfo.environment
    if let named = environment["ORPO_DIST_PYTHON"], !named.isEmpty { return named }
    let folders = (environment["PATH"] ?? "").split(separator: ":").map(String.init)
    for folder in ["/usr/bin"] + folders where FileManager.default.isExecutableFile(atPath: folder + "/python3") {
      return folder + "/python3"
    }
    throw ChatRendererError(
      description: "chat templates need Python with Jinja2, and there is no python3: apt-get install python3-jinja2")
  }
}
