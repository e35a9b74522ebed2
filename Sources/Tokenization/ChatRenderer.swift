internal import Foundation
package import JSON
internal import Synchronization

/// Renders chat templates with Jinja2, as transformers does, in a helper process running Python.
///
/// Start it before MPI_Init and from a thread that lives on (the helper ends with the thread that started it): starting
/// processes later is not safe with every network. Not needed when no text is rendered. May be used from several
/// threads.
package final class ChatRenderer: Sendable {
  private let helper: Mutex<ChatHelper?>
  private let settings: ChatHelper.Settings

  private init(_ settings: ChatHelper.Settings) throws {
    helper = Mutex(nil)
    self.settings = settings
    try helper.withLock { $0 = try ChatHelper(settings) }
  }

  deinit { stop() }

  /// Starts the helper with the Python that `ORPO_DIST_PYTHON` names, else /usr/bin/python3, else `python3` on the
  /// path.
  /// - Parameters:
  ///   - clock: what templates take for now (ISO 8601, without zone); the real time when nil.
  ///   - timeLimit: seconds for one render.
  ///   - memoryLimit: address space of the helper in bytes.
  /// - Throws: `ChatRendererError` saying what to install.
  package static func start(
    clock: String? = nil, timeLimit: Double = 10, memoryLimit: Int = 1 << 29
  ) throws -> ChatRenderer {
    let settings = ChatHelper.Settings(
      python: try python(), clock: clock, timeLimit: timeLimit, memoryLimit: memoryLimit)
    return try ChatRenderer(settings)
  }

  /// Renders one chat.
  /// - Throws: `ChatTemplateError` with what the template raised, `ChatRendererError` when the helper cannot work.
  package func render(
    template: String, messages: JSONValue, addGenerationPrompt: Bool = false, continueFinalMessage: Bool = false,
    variables: [String: String] = [:], tools: JSONValue? = nil, extra: [String: JSONValue] = [:]
  ) throws -> String {
    let request = ChatRequest(
      template: template, messages: messages, addGenerationPrompt: addGenerationPrompt,
      continueFinalMessage: continueFinalMessage, variables: variables, tools: tools, extra: extra)
    return try render([request])[0].get()
  }

  /// Renders many chats, in order; one that fails does not stop the others.
  package func render(_ requests: [ChatRequest]) throws -> [Result<String, ChatTemplateError>] {
    try helper.withLock { helper in
      var results: [Result<String, ChatTemplateError>] = []
      while results.count < requests.count {
        let current: ChatHelper
        if let running = helper { current = running } else { current = try ChatHelper(settings) }
        helper = current
        let ended = try current.render(requests[results.count...], &results)
        if let ended {
          // The render under way took the helper with it; the others get a new one.
          helper = nil
          results.append(.failure(ended))
        }
      }
      return results
    }
  }

  /// Ends the helper. A later render starts it again.
  package func stop() { helper.withLock { $0 = nil } }

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
