/// Where special tokens go around the ids of a text (`post_processor` in tokenizer.json).
struct PostProcessor: Sendable {
  enum Part: Sendable, Equatable {
    case text
    case special([Int32])
  }

  /// Applied one after the other; each replaces `text` by what the ones before made.
  var templates: [[Part]] = []

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
