import Foundation
import JSON
import Preferences

/// The tokenizer and chat template of Golden/make_goldens.py: two-character merges where one fits from the left, else
/// one scalar.
enum TinyTokenizer {
  static let merges: [(String, Int32)] = [
    ("[BOS]", 1), ("[EOS]", 2), ("ab", 200_001), ("bc", 200_002), (" t", 200_003), ("t\n", 200_004), ("éa", 200_005),
    ("[B", 200_006),
  ]

  static func encode(_ text: String) -> [Int32] {
    let scalars = Array(text.unicodeScalars)
    var ids: [Int32] = []
    var index = 0
    next: while index < scalars.count {
      for (token, id) in merges where scalars[index...].starts(with: token.unicodeScalars) {
        ids.append(id)
        index += token.unicodeScalars.count
        continue next
      }
      ids.append(Int32(scalars[index].value))
      index += 1
    }
    return ids
  }

  static func encoding(bos: Int32? = nil, eos: Int32? = 2) -> TextEncoding {
    TextEncoding(bosTokenID: bos, eosTokenID: eos) { encode($0) }
  }

  static let chat: ChatRendering = { requests in
    requests.map { request in
      let opening = request.arguments["opening"]?.string ?? "<"
      var text = "[BOS]"
      for (index, message) in request.messages.enumerated() {
        guard let role = message["role"]?.string, let content = message["content"]?.string else {
          return .failure(ChatRenderingError("only text is supported"))
        }
        if role == "refused" { return .failure(ChatRenderingError("role refused")) }
        text += "\(opening)\(role)>\(content)"
        if !(request.continueFinalMessage && index == request.messages.count - 1) { text += "</\(role)>\n" }
      }
      return .success(text + (request.addGenerationPrompt ? "\(opening)assistant> " : ""))
    }
  }
}

/// A file that exists as long as this value is used.
final class TemporaryFile {
  let path: String

  init(_ bytes: some Sequence<UInt8>, name: String = "rows.jsonl") throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("orpo-dist-" + UUID().uuidString)
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: false)
    path = folder.appendingPathComponent(name).path
    try Data(bytes).write(to: URL(fileURLWithPath: path))
  }

  convenience init(_ text: String, name: String = "rows.jsonl") throws { try self.init(text.utf8, name: name) }

  deinit { try? FileManager.default.removeItem(atPath: (path as NSString).deletingLastPathComponent) }

  func examples(threads: Int = 1) throws -> [Result<PreferenceExample, DataDefect>] {
    try PreferenceReader(files: [path]).examples(threads: threads)
  }

  /// The first row as an example.
  func example() throws -> PreferenceExample? { try examples().first?.get() }
}

func golden(_ name: String, file: StaticString = #filePath) -> String {
  URL(fileURLWithPath: "\(file)").deletingLastPathComponent().appendingPathComponent("Golden/\(name)").path
}

extension Result {
  var failure: Failure? { if case .failure(let error) = self { error } else { nil } }
}

extension PreferenceExample {
  /// All of the content as one JSON text, to compare with `==` on bytes.
  var json: String {
    switch content {
    case .text(let prompt, let chosen, let rejected):
      JSONValue.array([.string(prompt), .string(chosen), .string(rejected)]).serialized()
    case .messages(let prompt, let chosen, let rejected, let arguments):
      JSONValue.array([.array(prompt), .array(chosen), .array(rejected), .object(arguments)]).serialized()
    }
  }
}
