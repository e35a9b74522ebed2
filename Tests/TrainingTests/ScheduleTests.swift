import JSON
import Testing
import Training

@Suite struct ScheduleTests {
  @Test func everyRateEqualsTransformers() throws {
    let cases = try #require(JSONValue(parsing: golden("schedules.json")).array)
    var seen: Set<String> = []
    for item in cases {
      let name = try #require(item["schedule"]?.string)
      seen.insert(name)
      let settings = try #require(item["settings"])
      let rate = try #require(item["learning_rate"]?.double)
      let warmup = try #require(item["warmup_steps"]?.integer)
      let total = try #require(item["total_steps"]?.integer)
      // Through the configuration, as a run gets it.
      let yaml = """
        model_name_or_path: m
        train_file: t
        learning_rate: \(rate)
        lr_scheduler_type: \(name)
        lr_scheduler_kwargs: \(settings.serialized())
        warmup_steps: \(warmup)
        """
      let schedule = try TrainingConfiguration(yaml: yaml, location: "golden").learningRateSchedule(totalSteps: total)
      let expected = try #require(item["rates"]?.array).compactMap(\.double)
      #expect(expected.count == total + 1)
      for (step, value) in expected.enumerated() {
        #expect(abs(schedule[step] - value) <= 1e-14 * abs(value) + 1e-22, "\(item.serialized()) step \(step)")
      }
    }
    #expect(seen == Set(LearningRateSchedule.Kind.allCases.map(\.rawValue)))
  }

  @Test func aRateOfZeroStaysZero() {
    for kind in LearningRateSchedule.Kind.allCases {
      let schedule = LearningRateSchedule(kind: kind, peak: 0, warmupSteps: 0, totalSteps: 0)
      #expect((0..<3).allSatisfy { schedule[$0] == 0 })
    }
  }
}
