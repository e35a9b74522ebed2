#!/usr/bin/env bash
# Measures how orpo-dist scales over ranks: the same pairs a step on 1, 2 and 4 ranks of this machine, or of several emulated
# hosts joined by a network of limited bandwidth.
#
#   MODEL=FOLDER_OR_GGUF DATA=PAIRS.jsonl benchmarks/scaling.sh
#   HOSTS=2 BANDWIDTH=1 benchmarks/scaling.sh        two emulated hosts, 1 Gbit/s between them (needs root)
#
# Environment:
#   MODEL       Hugging Face folder or GGUF file (default: what launch/quickstart.sh leaves in out/quickstart or has fetched)
#   DATA        file of pairs (default data/customer-care/train.jsonl)
#   RANKS       numbers of ranks to run, in this order (default: 1 2 4; with HOSTS: 1 and as many as hosts)
#   HOSTS       emulated hosts over which ranks are spread evenly (default 1: this machine as it is)
#   BANDWIDTH   Gbit/s of an emulated host (default 10)
#   PAIRS       pairs of a step, a multiple of every number of ranks (default 16)
#   STEPS       steps of a run; the first one warms up and does not count (default 3)
#   THREADS     threads of a rank (default: the cores divided by the most ranks there are, so that all runs have the same)
#   SETTINGS    further key=value settings of the run, separated by spaces, such as "bf16=true wire_dtype=bf16"
#   ORPO_DIST   the program (default: built here)
#   OUT         folder for logs and results (default out/scaling)
set -euo pipefail
# shellcheck source=benchmarks/settings.sh
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"

need_model_and_data
out=${out:-$PWD/out/scaling}
hosts=${HOSTS:-1} bandwidth=${BANDWIDTH:-10} pairs=${PAIRS:-16} steps=${STEPS:-3}
cores=$(usable_cores)
need_numbers hosts pairs steps
if ((steps < 2)); then die "STEPS=$steps: expected at least 2, the first one warms up"; fi
if ((hosts == 1)); then default_ranks="1 2 4"; else default_ranks="1 $hosts"; fi
read -ra rank_counts <<<"${RANKS:-$default_ranks}"
most=1
for ranks in "${rank_counts[@]}"; do
  need_number RANKS "$ranks"
  if ((pairs % ranks != 0)); then die "PAIRS=$pairs: expected a multiple of $ranks ranks"; fi
  if ((hosts > 1 && ranks > 1 && ranks % hosts != 0)); then die "RANKS: $ranks ranks cannot be spread evenly over $hosts hosts"; fi
  if ((ranks > most)); then most=$ranks; fi
done
threads=${THREADS:-$((cores > most ? cores / most : 1))}
read -ra settings <<<"${SETTINGS:-}"

need_program

mkdir -p "$out"
scratch=$(mktemp -d "$out/run.XXXXXX")
emulated=$PWD/benchmarks/emulated-hosts.sh
has_hosts=""
clean_up() {
  if [[ -n $has_hosts ]]; then "$emulated" down; fi
  rm -rf -- "$scratch"
}
trap clean_up EXIT
# An interrupt ends the script, and that cleans up.
trap 'exit 130' INT TERM

if ((hosts > 1)); then
  if ((EUID != 0)); then die "HOSTS=$hosts: network namespaces need root"; fi
  say "$hosts emulated hosts, $bandwidth Gbit/s each"
  "$emulated" up "$hosts" "$bandwidth"
  has_hosts=yes
fi

# The words before a program that start it on RANKS ranks: LAUNCH=(...).
launch_for() {
  local ranks=$1 list="" number
  mpirun_for "$ranks"
  LAUNCH=("${MPIRUN[@]}")
  if ((hosts == 1)); then return; fi
  if ((ranks == 1)); then
    LAUNCH=("$emulated" exec host1 "${MPIRUN[@]}")
    return
  fi
  for ((number = 1; number <= hosts; number++)); do list+=",host$number:$((ranks / hosts))"; done
  # Every emulated host sees all cores of this machine: nothing is bound, and who waits gives way.
  LAUNCH=("$emulated" exec host1 mpirun --allow-run-as-root -n "$ranks" -H "${list#,}" --bind-to none
    --mca mpi_yield_when_idle 1 --mca plm rsh --mca plm_rsh_agent "$emulated rsh"
    --mca btl_tcp_if_include 10.99.0.0/24 --mca oob_tcp_if_include 10.99.0.0/24)
}

results=$out/results.jsonl
: >"$results"
for ranks in "${rank_counts[@]}"; do
  say "$ranks rank(s)"
  launch_for "$ranks"
  rm -rf "$scratch/model"
  cat >"$scratch/run.yaml" <<YAML
learning_rate: 1e-6
lr_scheduler_type: constant
shuffle: false
logging_steps: 1
save_steps: null
YAML
  log=$out/ranks-$ranks.log
  if "${LAUNCH[@]}" "$orpo" train --config "$scratch/run.yaml" "model_name_or_path=$model" "train_file=$data" \
    "output_dir=$scratch/model" per_device_train_batch_size=1 "gradient_accumulation_steps=$((pairs / ranks))" \
    "max_steps=$steps" "threads_per_rank=$threads" "${settings[@]}" >"$log" 2>&1; then
    python3 benchmarks/scaling.py record --ranks "$ranks" --metrics "$scratch/model/metrics.jsonl" | tee -a "$results"
  else
    tail -n 5 "$log" >&2
    die "the run with $ranks rank(s) failed; its log is $log"
  fi
done

say "Result"
processor=$(lscpu | sed -nE 's/^Model name: *//p' | head -n 1)
network="one host"
if ((hosts > 1)); then network="$hosts emulated hosts, $bandwidth Gbit/s each"; fi
cat <<TEXT
$(date -u +%F), $processor, $cores cores; $network; $threads thread(s) a rank, $pairs pairs per step, $steps steps (the first
does not count), pairs of $(basename "$data"), model $(basename "$model")${SETTINGS:+, $SETTINGS}

TEXT
python3 benchmarks/scaling.py table --cores "$cores" --threads "$threads" "$results" | tee "$out/table.md"
