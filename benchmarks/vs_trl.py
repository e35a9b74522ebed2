"""The parts of benchmarks/vs-trl.sh that are easier said in Python.

    vs_trl.py filter --model FOLDER --data IN.jsonl --out OUT.jsonl --max-length N     (needs trl)
    vs_trl.py orpo-dist --config FILE --steps N -- COMMAND ...                         prints one JSON object
    vs_trl.py table RESULTS.jsonl
"""
import argparse
import json
import math
import pathlib
import statistics
import subprocess
import sys
import time


def filter_rows(options):
    """Keeps the rows on which both trainers compute the same thing.

    TRL 1.16 cuts completions only: a prompt that fills max_length by itself leaves empty completions, whose mean is 0/0,
    and from that step on every parameter is NaN. Completions that are equal once cut are left out as well, as
    orpo-dist leaves them out.
    """
    from transformers import AutoTokenizer
    from trl.data_utils import extract_prompt, is_conversational, maybe_apply_chat_template

    tokenizer = AutoTokenizer.from_pretrained(options.model)

    def ids(text):
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    kept, seen = [], 0
    with open(options.data, encoding="utf-8") as lines:
        for line in filter(str.strip, lines):
            seen += 1
            row = json.loads(line)
            if "prompt" not in row:
                row = extract_prompt(row)
            row = {key: row[key] for key in ("prompt", "chosen", "rejected")}
            texts = maybe_apply_chat_template(row, tokenizer) if is_conversational(row) else row
            # One token each for BOS and for what the boundary may merge.
            prompt = len(ids(texts["prompt"])) + 2
            chosen, rejected = (ids(texts["prompt"] + texts[name])[: options.max_length - 1] for name in ("chosen", "rejected"))
            if prompt < options.max_length and chosen != rejected:
                kept.append(json.dumps(row, ensure_ascii=False))
    if not kept:
        sys.exit(f"{options.data}: no row has a prompt shorter than {options.max_length} tokens")
    pathlib.Path(options.out).write_text("\n".join(kept) + "\n", encoding="utf-8")
    print(f"{len(kept)} of {seen} rows of {options.data} are used: those whose prompt is shorter than {options.max_length} tokens")


def run_orpo_dist(options):
    """Runs a training command, notes when its lines come, and reads what it measured from metrics.jsonl."""
    output = None
    for argument in options.command:
        if argument.startswith("output_dir="):
            output = pathlib.Path(argument.partition("=")[2])
    began = time.monotonic()
    data_ready = first_step = None
    process = subprocess.Popen(options.command, stderr=subprocess.PIPE, stdout=sys.stderr, text=True)
    for line in process.stderr:
        sys.stderr.write(line)
        if data_ready is None and line.startswith("data: "):
            data_ready = time.monotonic() - began
        if first_step is None and line.startswith("step 1/"):
            first_step = time.monotonic() - began
    if process.wait() != 0:
        sys.exit(f"the command ended with code {process.returncode}")
    with open(output / "metrics.jsonl", encoding="utf-8") as lines:
        logs = [entry for entry in map(json.loads, lines) if "step_time" in entry]
    if len(logs) != options.steps:
        sys.exit(f"{output}/metrics.jsonl has {len(logs)} steps, expected {options.steps}")
    print(json.dumps({
        "step_seconds": [entry["step_time"] for entry in logs], "losses": [entry["loss"] for entry in logs],
        "pairs_per_step": round(logs[0]["pairs_per_second"] * logs[0]["step_time"]),
        "peak_memory_gb": max(entry["peak_memory_gb"] for entry in logs),
        "data_ready_seconds": data_ready, "first_step_seconds": first_step}))


def speed(result):
    """Pairs per second; the first step warms up caches, allocators and thread pools and is left out when there are others."""
    seconds = result["step_seconds"][1:] or result["step_seconds"]
    return result["pairs_per_step"] * len(seconds) / sum(seconds)


def print_table(options):
    rounds = {}
    with open(options.results, encoding="utf-8") as lines:
        for result in map(json.loads, lines):
            rounds.setdefault(result["variant"], []).append(result)
    variants = {}
    for name, results in rounds.items():
        done = [result for result in results if "step_seconds" in result]
        if done:
            variants[name] = {
                "speed": statistics.median(map(speed, done)),
                "spread": f"{min(map(speed, done)):.3f} to {max(map(speed, done)):.3f}" if len(done) > 1 else "",
                "memory": max(result["peak_memory_gb"] for result in done), "rounds": len(done),
                "loss": done[0]["losses"][0], "finite": all(math.isfinite(loss or math.nan) for r in done for loss in r["losses"]),
                "first": [r["first_step_seconds"] for r in done if r.get("first_step_seconds")],
                "data": [r["data_ready_seconds"] for r in done if r.get("data_ready_seconds")],
            }
    def precision(name):
        return "bf16" if name.endswith("-bf16") else "fp32"

    # What a variant is compared with: TRL in the same precision.
    shipped, tuned = {}, {}
    for name, v in variants.items():
        if name.startswith("trl-as-shipped"):
            shipped[precision(name)] = v["speed"]
        if name.startswith("trl-tuned"):
            tuned[precision(name)] = max(v["speed"], tuned.get(precision(name), 0))

    def ratio(value, base):
        return f"{value / base:.2f}" if base else "-"

    print("| variant | products | pairs/s | rounds, range | GB per process | x TRL as shipped | x best tuned TRL | loss of step 1 |")
    print("|---|---|---|---|---|---|---|---|")
    for name, results in rounds.items():
        v = variants.get(name)
        if v is None:
            print(f"| {name} | {precision(name)} | failed: {results[-1].get('failed', '')} | {len(results)} | - | - | - | - |")
            continue
        loss = f"{v['loss']:.4f}" if v["finite"] else "not finite"
        print(f"| {name} | {precision(name)} | {v['speed']:.3f} | {v['rounds']}{', ' if v['spread'] else ''}{v['spread']} | {v['memory']:.2f} | "
              f"{ratio(v['speed'], shipped.get(precision(name)))} | {ratio(v['speed'], tuned.get(precision(name)))} | {loss} |")
    for name, v in variants.items():
        if v["first"]:
            print(f"\n{name}: data ready {statistics.median(v['data']):.1f} s after launch, "
                  f"first optimizer step finished after {statistics.median(v['first']):.1f} s", end="")
    print()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("filter")
    for name in ("--model", "--data", "--out"):
        command.add_argument(name, required=True)
    command.add_argument("--max-length", type=int, required=True)
    command.set_defaults(run=filter_rows)
    command = commands.add_parser("orpo-dist")
    command.add_argument("--steps", type=int, required=True)
    command.add_argument("command", nargs="+")
    command.set_defaults(run=run_orpo_dist)
    command = commands.add_parser("table")
    command.add_argument("results")
    command.set_defaults(run=print_table)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
