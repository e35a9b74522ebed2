internal import JSON
package import Packing

extension TokenizedPair {
  /// One line of JSON: both whole sequences and the tokens of them that are prompt. `rejected_prompt_length` is there
  /// only when it differs from `prompt_length`.
  package var dumpLine: String {
    var object = JSONObject([
      ("chosen_input_ids", .array(chosen.map { .integer(Int($0)) })),
      ("rejected_input_ids", .array(rejected.map { .integer(Int($0)) })),
      ("prompt_length", .integer(chosenPromptLength)),
    ])
    if rejectedPromptLength != chosenPromptLength {
      object["rejected_prompt_length"] = .integer(rejectedPromptLength)
    }
    return JSONValue.object(object).serialized()
  }
}
