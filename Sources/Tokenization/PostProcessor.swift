/// Where special tokens go around the ids of a text (`post_processor` in tokenizer.json).
struct PostProcessor: Sendable {
  enum Part: Sendable, Equatable {
    case text
    case special([Int32])
  }

  /// Applied one after the other; each replaces `text` by what the ones before made.
  var templates: [[Part]] = []

  /// Refuses ids that no model of this vocabulary has an embedding for, and templates that multiply a text.
  func validate(vocabularySize: Int, file: String) throws(TokenizerError) {
    guard templates.count <= Component.mostSteps else {
      throw .malformed(file: file, key: "post_processor", reason: "has \(templates.count) templates")
    }
    for template in templates {
      guard template.filter({ $0 == .text }).count <= 1 else {
        throw .malformed(file: file, key: "post_processor", reason: "a template repeats the text")
      }
      for case .special(let ids) in template {
        guard ids.count <= Component.longestText else {
          throw .malformed(file: file, key: "post_processor", reason: "a special token has \(ids.count) ids")
        }
        for id in ids where !(0..<vocabularySize).contains(Int(id)) {
          throw .malformed(
            file: file, key: "post_processor", reason: "id \(id) is outside the vocabulary of \(vocabularySize) tokens")
        }
      }
    }
  }

  func callAsFunction(_ ids: [Int32]) -> [Int32] {
    templates.reduce(ids) { ids, template in
      template.flatMap { part in
        switch part {
        case .text: ids
        case .special(let special): special
        }
      }
    }
  }
}
