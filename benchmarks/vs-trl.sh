#!/usr/bin/env bash
# Measures orpo-dist against TRL's ORPOTrainer (PyTorch on the CPU): same machine, model, pairs and step size.
#
#   MODEL=FOLDER DATA=PAIRS.jsonl benchmarks/vs-trl.sh
#
# Environment:
#   MODEL       Hugging Face folder (default out/quickstart, the folder that launch/quickstart.sh leaves)
#   DATA        file of pairs, JSON lines (default data/customer-care/train.jsonl, which has short pairs only)
#   STEPS       optimizer steps of a run; the first one warms up and does not count unless it is the only one (default 3)
#   PAIRS       pairs of a step, a multiple of 2 (default 16)
#   MAX_LENGTH  tokens (default 1024)
#   ROUNDS      how often all variants are run, in turns, so that a machine's moods meet all of them; medians are shown (default 1)
#   VARIANTS    which to run (default: trl-as-shipped trl-tuned trl-tuned-ddp-2 orpo-dist-1 orpo-dist-2, all in fp32; each with
#               -bf16 at its end computes matrix products in bf16; ratios are to TRL in the same precision)
#   VENV        Python environment with benchmarks/requirements.txt (default: built in .build/vs-trl-venv)
#   ORPO_DIST   the program (default: built here)
#   OUT         folder for logs and results (default out/vs-trl)
set -euo pipefail
# shellcheck source=benchmarks/settings.sh
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"

model=${model:-$PWD/out/quickstart}
data=${data:-$PWD/data/customer-care/train.jsonl}
out=${out:-$PWD/out/vs-trl}
steps=${STEPS:-3} pairs=${PAIRS:-16} max_length=${MAX_LENGTH:-1024} rounds=${ROUNDS:-1}
read -ra variants <<<"${VARIANTS:-trl-as-shipped trl-tuned trl-tuned-ddp-2 orpo-dist-1 orpo-dist-2}"

need_numbers steps pairs max_length rounds
for name in "${variants[@]}"; do
  case ${name%-bf16} in
    trl-as-shipped | trl-tuned | trl-tuned-ddp-2 | orpo-dist-1 | orpo-dist-2) ;;
    *) die "VARIANTS: unknown variant $name; --help lists them" ;;
  esac
done
if ((pairs % 2 != 0)); then die "PAIRS=$pairs: expected a multiple of 2, for batches and processes of two"; fi
[[ -f $model/config.json ]] ||
  die "MODEL: $model is no Hugging Face folder; run launch/quickstart.sh first, which leaves one, or name another"
[[ -r $data ]] || die "DATA: $data cannot be read"

# MARK: both sides

build_venv() {
  venv=$PWD/.build/vs-trl-venv
  if [[ -f $venv/complete ]]; then return; fi
  say "Setting up TRL in $venv"
  python3 -m venv "$venv" || die "python3 -m venv failed: apt-get install python3-venv"
  # The CPU build when its index can be reached; PyPI's build works as well and is larger.
  "$venv/bin/pip" install -q "torch==2.13.0" --index-url https://download.pytorch.org/whl/cpu ||
    "$venv/bin/pip" install -q "torch==2.13.0"
  "$venv/bin/pip" install -q -r benchmarks/requirements.txt
  touch "$venv/complete"
}
if [[ -z $venv ]]; then build_venv; fi
python=$venv/bin/python
"$python" -c 'import torch, trl' || die "VENV: $python cannot import torch and trl (benchmarks/requirements.txt)"

need_program

scratch=$(mktemp -d)
trap 'rm -rf -- "$scratch"' EXIT
mkdir -p "$out"
results=$out/results.jsonl
: >"$results"

# What makes PyTorch fast on a CPU: an allocator that keeps its pages, and MKL using AVX-512 on every processor that has it
# (it asks this function whether the processor is Intel's, and takes a slower path when not).
preload=()
tcmalloc=$(ldconfig -p | awk '/libtcmalloc(_minimal)?\.so\.4 / { path = $NF } END { print path }')
if [[ -n $tcmalloc ]]; then preload+=("$tcmalloc"); else echo "note: no tcmalloc (apt-get install libtcmalloc-minimal4): TRL is tuned without it"; fi
if [[ $(uname -m) == x86_64 ]] && command -v gcc >/dev/null; then
  printf 'int mkl_serv_intel_cpu_true(void) { return 1; }\n' | gcc -shared -fPIC -x c - -o "$scratch/mkl.so"
  preload+=("$scratch/mkl.so")
else
  echo "note: not x86-64, or no gcc: MKL is left as it is"
fi
tuning=(env TCMALLOC_RELEASE_RATE=0 "LD_PRELOAD=${preload[*]}")

"$python" benchmarks/vs_trl.py filter --model "$model" --data "$data" --out "$out/pairs.jsonl" --max-length "$max_length"
rows=$(wc -l <"$out/pairs.jsonl")
if ((rows < pairs)); then die "$rows rows are fewer than the $pairs pairs of a step: lower PAIRS"; fi
cores=$(usable_cores)

# MARK: variants; each prints one JSON object on standard output

# trl PROCESSES BATCH; in bf16 PyTorch's autocast, which is what ORPOConfig's bf16 means
trl() {
  local processes=$1 batch=$2
  local -a launcher=("$python")
  if ((processes > 1)); then launcher=("$venv/bin/torchrun" --nproc_per_node "$processes"); fi
  "${prefix[@]}" env OMP_NUM_THREADS=$((cores > processes ? cores / processes : 1)) \
    "${launcher[@]}" benchmarks/trl_orpo.py --model "$model" --data "$out/pairs.jsonl" --batch "$batch" \
    --accumulation $((pairs / batch / processes)) --steps "$steps" --max-length "$max_length" \
    ${bf16:+--bf16}
}

# orpo_dist RANKS
orpo_dist() {
  local ranks=$1
  mpirun_for "$ranks"
  rm -rf "$scratch/model"
  cat >"$scratch/run.yaml" <<YAML
learning_rate: 8e-6
lr_scheduler_type: constant
max_grad_norm: 1.0
shuffle: false
logging_steps: 1
save_steps: null
# Only completions are cut, as TRL does; all prompts fit.
max_prompt_length: $((max_length - 1))
YAML
  python3 benchmarks/vs_trl.py orpo-dist --steps "$steps" -- "${MPIRUN[@]}" "$orpo" train --config "$scratch/run.yaml" \
    "model_name_or_path=$model" "train_file=$out/pairs.jsonl" "output_dir=$scratch/model" "max_length=$max_length" \
    per_device_train_batch_size=1 "gradient_accumulation_steps=$((pairs / ranks))" "max_steps=$steps" "bf16=${bf16:-false}"
}

variant() {
  prefix=()
  bf16=""
  if [[ $1 == *-bf16 ]]; then bf16=true; fi
  case ${1%-bf16} in
    trl-as-shipped) trl 1 2 ;;
    trl-tuned)
      prefix=("${tuning[@]}")
      trl 1 1
      ;;
    trl-tuned-ddp-2)
      prefix=("${tuning[@]}")
      trl 2 1
      ;;
    orpo-dist-1) orpo_dist 1 ;;
    orpo-dist-2) orpo_dist 2 ;;
    *) die "VARIANTS: unknown variant $1" ;;
  esac
}

for ((round = 1; round <= rounds; round++)); do
  for name in "${variants[@]}"; do
    say "Round $round of $rounds: $name"
    log=$out/$name-$round.log
    began=$SECONDS
    # A variant that fails (TRL may run out of memory) is noted, and the others go on.
    if variant "$name" >"$scratch/result" 2>"$log"; then
      tail -n 1 "$scratch/result" >"$scratch/line"
    else
      status=$?
      echo "failed with code $status; see $log"
      printf '{"failed": "code %d"}\n' "$status" >"$scratch/line"
    fi
    python3 -c 'import json, sys; print(json.dumps({"variant": sys.argv[1], "round": int(sys.argv[2]), **json.load(open(sys.argv[3]))}))' \
      "$name" "$round" "$scratch/line" | tee -a "$results"
    echo "$((SECONDS - began)) s"
  done
done

# MARK: what came out

say "Result"
processor=$(lscpu | sed -nE 's/^Model name: *//p' | head -n 1)
memory=$(awk '/^MemTotal:/ { printf "%.0f", $2 / 1048576 }' /proc/meminfo)
cat <<TEXT
$(date -u +%F), $processor, $cores cores, $memory GB; $pairs pairs per step, max_length $max_length,
$steps steps (the first counts only when alone), $rows rows of $(basename "$data"), model $(basename "$model")

TEXT
python3 benchmarks/vs_trl.py table "$results" | tee "$out/table.md"
