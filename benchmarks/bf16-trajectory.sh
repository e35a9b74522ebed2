#!/usr/bin/env bash
# Trains the same steps twice, with products in fp32 and in bf16, and compares losses: does bf16 learn the same?
#
#   MODEL=FOLDER_OR_GGUF DATA=PAIRS.jsonl benchmarks/bf16-trajectory.sh
#
# Environment:
#   MODEL       Hugging Face folder or GGUF file (default: what launch/quickstart.sh leaves in out/quickstart or has fetched)
#   DATA        file of pairs, a tenth of which is held out (default data/customer-care/train.jsonl)
#   STEPS       optimizer steps (default 60)
#   PAIRS       pairs of a step, a multiple of RANKS (default: RANKS)
#   RANKS       ranks (default: the cores, at most 4)
#   SETTINGS    further key=value settings of both runs, separated by spaces, such as "learning_rate=2e-5"
#   ORPO_DIST   the program (default: built here)
#   OUT         folder for logs and results (default out/bf16-trajectory)
set -euo pipefail
# shellcheck source=benchmarks/settings.sh
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"

need_model_and_data
out=${out:-$PWD/out/bf16-trajectory}
cores=$(usable_cores)
ranks=${RANKS:-$((cores < 4 ? cores : 4))} steps=${STEPS:-60}
pairs=${PAIRS:-$ranks}
need_numbers ranks steps pairs
if ((pairs % ranks != 0)); then die "PAIRS=$pairs: expected a multiple of $ranks ranks"; fi
read -ra settings <<<"${SETTINGS:-}"

need_program

mkdir -p "$out"
cat >"$out/run.yaml" <<YAML
learning_rate: 8e-6
lr_scheduler_type: cosine
warmup_ratio: 0.1
eval_split: 0.1
eval_on_start: true
logging_steps: 1
save_steps: null
YAML
mpirun_for "$ranks"
for bf16 in false true; do
  say "$steps steps of $pairs pairs, bf16: $bf16"
  "${MPIRUN[@]}" "$orpo" train --config "$out/run.yaml" "model_name_or_path=$model" "train_file=$data" \
    "output_dir=$out/bf16-$bf16" "max_steps=$steps" per_device_train_batch_size=1 \
    "gradient_accumulation_steps=$((pairs / ranks))" "bf16=$bf16" "${settings[@]}" >"$out/bf16-$bf16.log" 2>&1 ||
    die "training failed; see $out/bf16-$bf16.log"
done

say "Result"
python3 - "$out/bf16-false/metrics.jsonl" "$out/bf16-true/metrics.jsonl" <<'PYTHON' | tee "$out/table.md"
import json, sys

def read(path):
    rows = [json.loads(line) for line in open(path)]
    losses = [row["loss"] for row in rows if "loss" in row]
    return losses, [row["eval_loss"] for row in rows if "eval_loss" in row], sum(r.get("step_time", 0) for r in rows)

def smooth(losses, width=10):
    """Means over the last `width` steps, from the first full window on."""
    width = min(width, len(losses))
    return [sum(losses[end - width:end]) / width for end in range(width, len(losses) + 1)]

(exact, exact_eval, exact_time), (rounded, rounded_eval, rounded_time) = map(read, sys.argv[1:])
distance = max(abs(b / a - 1) for a, b in zip(smooth(exact), smooth(rounded)))
print("| | fp32 | bf16 | difference |\n|---|---|---|---|")
print(f"| eval_loss before | {exact_eval[0]:.4f} | {rounded_eval[0]:.4f} | {rounded_eval[0] / exact_eval[0] - 1:+.3%} |")
print(f"| eval_loss after | {exact_eval[-1]:.4f} | {rounded_eval[-1]:.4f} | {rounded_eval[-1] / exact_eval[-1] - 1:+.3%} |")
print(f"| loss, mean of all {len(exact)} steps | {sum(exact) / len(exact):.4f} | {sum(rounded) / len(rounded):.4f} | "
      f"{sum(rounded) / sum(exact) - 1:+.3%} |")
print(f"| loss, mean of 10 steps | | | at most {distance:.3%} |")
print(f"| seconds of all steps | {exact_time:.0f} | {rounded_time:.0f} | x {exact_time / rounded_time:.2f} |")
PYTHON
