package import JSON

extension RunFolder {
  /// What `orpo-dist status --json` prints.
  package func jsonText(_ health: RunHealth) -> String { json(health).serialized() }

  /// The same as one object.
  package func json(_ health: RunHealth) -> JSONValue {
    var curve: [JSONValue] = []
    if let points = curves["loss"]?.points {
      // A few hundred points draw a curve; who wants all of them reads metrics.jsonl.
      let stride = max((points.count + 255) / 256, 1)
      curve = points.enumerated().filter { $0.offset % stride == 0 || $0.offset == points.count - 1 }.map {
        .array([.double($0.element.step), .double($0.element.mean)])
      }
    }
    return [
      "folder": .string(path), "time": .double(time), "health": .string(health.level.rawValue),
      "process_found": health.processFound.map { .bool($0) } ?? .null,
      "remarks": .array(
        health.remarks.map { ["level": .string($0.level.rawValue), "text": .string($0.text)] }),
      "age": status.map { .double(time - $0.time) } ?? .null, "status": status?.json ?? .null,
      "last_log": lastLog?.json ?? .null, "last_evaluation": lastEvaluation?.json ?? .null,
      "loss_curve": .array(curve),
      "checkpoints": .array(
        checkpoints.map {
          [
            "name": .string($0.name), "step": .integer($0.step), "bytes": .integer($0.bytes),
            "time": $0.time.map { .double($0) } ?? .null, "usable": .bool($0.defect == nil),
            "verified": .bool($0.isVerified), "defect": $0.defect.map { .string($0) } ?? .null,
          ]
        }),
      "starts": .integer(journal.starts),
      "events": .object(
        JSONObject(journal.counts.sorted { $0.key < $1.key }.map { (key: $0.key, value: .integer($0.value)) })),
      "problems": .array(problems.map { .string($0) }),
    ]
  }
}
