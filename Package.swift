// swift-tools-version: 6.1
import PackageDescription

// Swift and C are compiled for the same instruction set: without FMA, `addingProduct` would call `fmaf` per element.
#if arch(x86_64)
  let instructionSet = ["-march=x86-64-v3"]
#else
  let instructionSet: [String] = []
#endif

// CI turns warnings into errors; a newer compiler's new warnings never stop a user's build.
let strict = Context.environment["ORPO_DIST_STRICT"] == nil ? [] : ["-warnings-as-errors"]

let fuzzing = Context.environment["ORPO_DIST_FUZZ"] != nil
let coverage = fuzzing ? ["-sanitize=fuzzer"] : []

let swift: [SwiftSetting] = [
  .swiftLanguageMode(.v6),
  .enableUpcomingFeature("InternalImportsByDefault"),
  .enableUpcomingFeature("MemberImportVisibility"),
  .enableUpcomingFeature("ExistentialAny"),
  .unsafeFlags(instructionSet.flatMap { ["-Xcc", $0] } + strict + coverage),
]
let c: [CSetting] = [.unsafeFlags(instructionSet + ["-Wall", "-Wextra"])]

func module(_ name: String, _ dependencies: [Target.Dependency] = [], exclude: [String] = []) -> Target {
  .target(name: name, dependencies: dependencies, exclude: exclude, swiftSettings: swift)
}

func library(_ name: String, pkgConfig: String? = nil, apt: String) -> Target {
  .systemLibrary(name: name, path: "Sources/SystemLibraries/\(name)", pkgConfig: pkgConfig, providers: [.apt([apt])])
}

/// Golden files are read in place, beside the test that compares with them.
func tests(_ name: String, _ dependencies: [Target.Dependency], exclude: [String] = ["Golden"]) -> Target {
  .testTarget(name: name, dependencies: dependencies, exclude: exclude, swiftSettings: swift)
}

let package = Package(
  name: "orpo-dist",
  products: [.executable(name: "orpo-dist", targets: ["orpo-dist"])],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.5.0"),
    .package(url: "https://github.com/apple/swift-protobuf", from: "1.30.0"),
    .package(url: "https://github.com/jpsim/Yams", from: "6.0.0"),
  ],
  targets: [
    // The command.
    .executableTarget(
      name: "orpo-dist",
      dependencies: [
        "Training", "Collectives", "Tokenization", .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      swiftSettings: swift),
    // The loop and what it is made of, top to bottom.
    module(
      "Training",
      [
        "Checkpoints", "DataParallel", "Preferences", "ORPO", "Decoder", "Packing", "ModelFiles", "Collectives",
        "Tokenization", "Kernels", "Tensors", "Timeline", "JSON", "Yams",
        .product(name: "SwiftProtobuf", package: "swift-protobuf"),
      ], exclude: ["Logging/tensorboard.proto"]),
    module("Checkpoints", ["ModelFiles", "Tensors", "JSON"]),
    module("DataParallel", ["Collectives", "Kernels", "Tensors", "Timeline"]),
    module("Preferences", ["Packing", "Tokenization", "Tensors", "JSON", "CZlib", "CZstd"]),
    module("ORPO", ["Packing"]),
    module("Decoder", ["Packing", "ModelFiles", "Kernels", "Tensors", "Timeline", "JSON"]),
    module("Packing"),
    module("ModelFiles", ["Tensors", "JSON"]),
    module("Collectives", ["CMPI"]),
    module("Tokenization", ["ModelFiles", "JSON", "CUTF8Proc"]),
    module("Kernels", ["Tensors", "Timeline", "COneDNN", "CBFloat16"]),
    module("Tensors"),
    module("Timeline"),
    module("JSON", ["CJansson"]),
    // C, only where Swift cannot reach.
    .target(name: "CMPI", dependencies: ["COpenMPI"], cSettings: c),
    .target(name: "CBFloat16", dependencies: ["COneDNN"], cSettings: c),
    library("COpenMPI", pkgConfig: "ompi-c", apt: "libopenmpi-dev"),
    library("COneDNN", apt: "libdnnl-dev"),
    library("CJansson", pkgConfig: "jansson", apt: "libjansson-dev"),
    library("CUTF8Proc", apt: "libutf8proc-dev"),
    library("CZlib", pkgConfig: "zlib", apt: "zlib1g-dev"),
    library("CZstd", pkgConfig: "libzstd", apt: "libzstd-dev"),
    // Tests; what needs several ranks is the executable `rank-tests`, run under mpirun by launch/test.sh.
    tests("JSONTests", ["JSON"], exclude: []),
    tests("TimelineTests", ["Timeline"], exclude: []),
    tests("ModelFilesTests", ["ModelFiles", "Tensors", "JSON"]),
    tests("CheckpointsTests", ["Checkpoints", "ModelFiles", "Tensors", "JSON"]),
    tests("TokenizationTests", ["Tokenization", "JSON", "CUTF8Proc"]),
    tests("PreferencesTests", ["Preferences", "Packing", "Tokenization", "JSON"]),
    tests("ORPOTests", ["ORPO", "Packing", "JSON"]),
    tests("KernelsTests", ["Kernels", "Tensors"]),
    tests("DecoderTests", ["Decoder", "Packing", "ORPO", "Kernels", "ModelFiles", "Tensors", "JSON"]),
    tests("TrainingTests", ["Training", "Preferences", "Decoder", "Packing", "Timeline", "JSON"]),
    tests("EndToEndTests", ["JSON"]),
    .executableTarget(
      name: "rank-tests", dependencies: ["DataParallel", "Collectives", "Kernels", "Tensors"], path: "Tests/RankTests",
      swiftSettings: swift),
  ]
)

// Fuzzers of what reads files from outside (launch/fuzz.sh). Coverage is counted in every module, and libFuzzer brings the
// program's entry.
if fuzzing {
  package.targets.append(
    .executableTarget(
      name: "fuzz",
      dependencies: [
        "Training", "Checkpoints", "Preferences", "Decoder", "ModelFiles", "Tokenization", "JSON",
      ], path: "Tests/Fuzz", exclude: ["Seeds"], swiftSettings: swift + [.unsafeFlags(["-parse-as-library"])],
      linkerSettings: [.unsafeFlags(["-sanitize=fuzzer"])]))
}

// Kernels by themselves (benchmarks/README.md). Only for those who ask: nobody else fetches what it needs. The plugin looks for
// folders inside one that is called Benchmarks.
if Context.environment["ORPO_DIST_BENCHMARKS"] != nil {
  package.dependencies.append(.package(url: "https://github.com/ordo-one/benchmark", from: "1.38.1", traits: []))
  package.targets.append(
    .executableTarget(
      name: "KernelBenchmarks",
      dependencies: ["Kernels", "Tensors", .product(name: "Benchmark", package: "benchmark")],
      path: "benchmarks/Benchmarks/Kernels", swiftSettings: swift,
      plugins: [.plugin(name: "BenchmarkPlugin", package: "benchmark")]))
}
