import ArgumentParser
import Training

/// The command line: parse, wire, run, exit code. What the commands do is in `Training`.
@main
struct OrpoDist: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "orpo-dist",
    abstract: "ORPO training of language models over MPI ranks, on CPUs.",
    discussion: """
      Run a command under mpirun or srun to spread it over ranks, or alone as a single rank:

        mpirun -n 4 orpo-dist                                     check this cluster, 30 seconds
        mpirun -n 4 orpo-dist train --config run.yaml             train
        mpirun -n 4 orpo-dist train --config run.yaml --resume    go on from the newest checkpoint
        orpo-dist data --config run.yaml                          what becomes of the rows
        orpo-dist generate --model output --prompt "Hello"        talk to the result

      Configuration keys are those of TRL's ORPOConfig; key=value arguments override the file.
      """,
    version: Version.text,
    subcommands: [Train.self, Evaluate.self, Generate.self, Data.self, Check.self], defaultSubcommand: Check.self)
}
