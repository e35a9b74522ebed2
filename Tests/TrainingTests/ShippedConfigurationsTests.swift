import Foundation
import Testing
import Training

@Suite struct ShippedConfigurationsTests {
  static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent(
    "../../configs"
  ).path

  static var files: [String] {
    ((try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []).filter { $0.hasSuffix(".yaml") }.sorted()
  }

  @Test func allAreThere() {
    let expected = [
      "course-example.yaml", "mistral-7b-orpo.yaml", "quickstart.yaml", "sft-vs-orpo.yaml", "smollm2-135m.yaml",
    ]
    #expect(Set(Self.files).isSuperset(of: expected))
  }

  @Test(arguments: files)
  func eachReadsAndResolves(_ name: String) throws {
    let configuration = try TrainingConfiguration(file: Self.folder + "/" + name)
    #expect(try TrainingConfiguration(yaml: configuration.resolvedYAML, location: name) == configuration)
    #expect(try TrainingConfiguration(file: Self.folder + "/" + name, for: .eval) == configuration)
  }

  @Test func theCourseExampleIsAsWritten() throws {
    let c = try TrainingConfiguration(file: Self.folder + "/course-example.yaml")
    #expect(c.learningRate == 1e-5)
    #expect(c.perDeviceTrainBatchSize == 4 && c.gradientAccumulationSteps == 4)
    #expect(c.maxSteps == 1000)
    #expect(c.orpoWeight == 1 && c.orpoTemperature == 0.1)
  }

  @Test func theComparisonRunsWithBothWeights() throws {
    let file = Self.folder + "/sft-vs-orpo.yaml"
    #expect(try TrainingConfiguration(file: file, overrides: ["beta=0", "output_dir=a"]).orpoWeight == 0)
    #expect(try TrainingConfiguration(file: file).orpoWeight > 0)
  }
}
