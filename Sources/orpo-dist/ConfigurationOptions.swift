import ArgumentParser
import Training

/// `--config FILE [key=value ...]`, shared by the commands that read a configuration.
struct ConfigurationOptions: ParsableArguments {
  @Option(name: .long, help: ArgumentHelp("YAML file with the run's settings.", valueName: "file"))
  var config: String

  @Argument(help: ArgumentHelp("Settings that override the file, such as learning_rate=1e-5.", valueName: "key=value"))
  var overrides: [String] = []

  func read(for purpose: TrainingConfiguration.Purpose) throws -> TrainingConfiguration {
    try TrainingConfiguration(file: config, overrides: overrides, for: purpose)
  }
}
