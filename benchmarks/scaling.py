"""The parts of benchmarks/scaling.sh that are easier said in Python.

    scaling.py record --ranks N --metrics metrics.jsonl       prints one JSON object
    scaling.py table --cores C --threads T RESULTS.jsonl
"""
import argparse
import json
import statistics
import sys


def record(options):
    with open(options.metrics, encoding="utf-8") as lines:
        steps = [entry for entry in map(json.loads, lines) if "step_time" in entry][1:]
    if not steps:
        sys.exit(f"{options.metrics} has no step after the first")

    def mean(name):
        return statistics.fmean(step[name] for step in steps)

    print(json.dumps({
        "ranks": options.ranks, "step_seconds": mean("step_time"),
        "pairs_per_second": sum(s["pairs_per_second"] * s["step_time"] for s in steps) / sum(s["step_time"] for s in steps),
        "comm_seconds": mean("comm_time"), "imbalance": mean("imbalance"), "mfu": mean("mfu"),
        "peak_memory_gb": max(step["peak_memory_gb"] for step in steps), "loss": steps[0]["loss"]}))


def table(options):
    """Efficiency is speed against that of the first run times the cores that are at work: ranks beyond the cores only share them."""
    with open(options.results, encoding="utf-8") as lines:
        results = [json.loads(line) for line in lines]
    first = results[0]

    def busy(ranks):
        return min(ranks * options.threads, options.cores)

    print("| ranks | pairs/s | efficiency | step s | comm_time s | share | imbalance | MFU | GB per rank | loss of step 2 |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for result in results:
        ideal = first["pairs_per_second"] * busy(result["ranks"]) / busy(first["ranks"])
        print(f"| {result['ranks']} | {result['pairs_per_second']:.3f} | {result['pairs_per_second'] / ideal:.0%} | "
              f"{result['step_seconds']:.2f} | {result['comm_seconds']:.2f} | "
              f"{result['comm_seconds'] / result['step_seconds']:.1%} | {result['imbalance']:.3f} | {result['mfu']:.0%} | "
              f"{result['peak_memory_gb']:.2f} | {result['loss']:.4f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("record")
    command.add_argument("--ranks", type=int, required=True)
    command.add_argument("--metrics", required=True)
    command.set_defaults(run=record)
    command = commands.add_parser("table")
    command.add_argument("--cores", type=int, required=True)
    command.add_argument("--threads", type=int, required=True)
    command.add_argument("results")
    command.set_defaults(run=table)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
