#!/usr/bin/env bash
# Trains for hours while faults are injected at random, starts the same command again after each, and ends with a table: faults
# injected, detected, named, recovered from, steps lost, checkpoints damaged, and whether the parameters in the end are, bit for bit,
# those of a run that nobody disturbed (which trains beside it, on one host and with less priority). It may be suspended, jobs and
# all: times are those it ran.
#
#   benchmarks/soak.sh                                             two hours, a fault about every minute
#   DURATION=300 FAULT_EVERY=10 MIN_FAULTS=10 benchmarks/soak.sh   a short trial
#
# Exit code 0 when every criterion is met, else 1. A small file system of its own, which "disk-full" needs, is made when root.
#
# Environment:
#   DURATION      seconds of training with faults (default 7200)
#   FAULT_EVERY   seconds between faults, on average (default 50)
#   MIN_FAULTS    criterion: at least so many faults (default 100)
#   SEED          decides kinds, times, ranks (default 1)
#   KINDS         kinds of faults, separated by spaces (default: all that this machine and program can do):
#                   kill-rank kill-mpirun   SIGKILL of a rank, of mpirun
#                   term-rank usr1-rank     a signal to one rank: all save and leave with 75, nothing is lost
#                   stop-rank               SIGSTOP of a rank: the others miss it and end the job
#                   silent-host           the link of an emulated host is gone until its job has ended
#                   link-down             it is gone for 20 s: the host is taken for dead, too
#                   link-short            it is gone for 4 s: training waits and goes on
#                   disk-full               nothing can be saved until there is room again; training goes on
#                   flip-gradient           a gradient is wrong (ORPO_DIST_DRILL): found, named, the step computed again
#                   flip-parameter          a parameter is wrong on one rank: found before it is saved, named, code 75
#   HOSTS         emulated hosts (network namespaces, benchmarks/emulated-hosts.sh) for the ranks (default 2 when root, else 1)
#   AT_START      share of restarts during which a rank is killed as well (default 0.1)
#   RANKS         numbers of ranks of a start, chosen at random (default 1 2 3 4)
#   MODEL, DATA   Hugging Face folder and pairs (default: the tests' tiny Llama, data/customer-care/train.jsonl)
#   PAIRS         pairs of a step, a multiple of every number of ranks (default 144)
#   SETTINGS      further key=value settings of the run, separated by spaces, such as "bf16=true zero_stage=0"
#   SAVE_SECONDS  seconds between checkpoints, from which steps are computed by a trial run (default 10)
#   SAVE_STEPS    steps between checkpoints, without a trial run
#   HANG_SECONDS  what takes longer is a hang (default 120)
#   KILL_SECONDS  criterion: a killed rank must be noticed within (default 5)
#   STOP_SECONDS  criterion: a stopped rank must be noticed within (default 30)
#   DISK_MB       size of the small file system (default: what six checkpoints of the model take)
#   ORPO_DIST     the program (default: built here)
#   OUT           folder for logs and results (default out/soak)
set -euo pipefail
# shellcheck source=benchmarks/settings.sh
source "$(dirname "${BASH_SOURCE[0]}")/settings.sh"
# shellcheck source=launch/jobs.sh
source launch/jobs.sh

held_out=null
if [[ -z $data ]]; then
  data=$PWD/data/customer-care/train.jsonl
  held_out=$PWD/data/customer-care/heldout.jsonl
fi
# The tiny model reads 256 tokens.
max_length=1024
if [[ -z $model ]]; then
  model=$PWD/Tests/EndToEndTests/Golden/llama
  max_length=256
fi
out=${out:-$PWD/out/soak}
[[ -d $model ]] || die "MODEL: $model is no folder"
[[ -r $data ]] || die "DATA: $data cannot be read"
duration=${DURATION:-7200} fault_every=${FAULT_EVERY:-50} min_faults=${MIN_FAULTS:-100} seed=${SEED:-1} pairs=${PAIRS:-144}
save_seconds=${SAVE_SECONDS:-10} save_steps=${SAVE_STEPS:-0} hang_seconds=${HANG_SECONDS:-120} kill_seconds=${KILL_SECONDS:-5}
stop_seconds=${STOP_SECONDS:-30} at_start=${AT_START:-0.1}
hosts=${HOSTS:-$((EUID == 0 ? 2 : 1))}
need_numbers hosts duration fault_every min_faults pairs save_seconds hang_seconds kill_seconds stop_seconds
for name in seed save_steps; do need_number "${name^^}" "${!name}" 0; done
if [[ ! $at_start =~ ^(0|1|0?[.][0-9]+)$ ]]; then die "AT_START=$at_start: expected a share from 0 to 1"; fi
read -ra rank_counts <<<"${RANKS:-1 2 3 4}"
for ranks in "${rank_counts[@]}"; do
  need_number RANKS "$ranks"
  if ((pairs % ranks != 0)); then die "PAIRS=$pairs: expected a multiple of $ranks ranks"; fi
done
read -ra kinds <<<"${KINDS:-kill-rank kill-mpirun term-rank usr1-rank stop-rank disk-full flip-gradient flip-parameter silent-host link-down link-short}"
for kind in "${kinds[@]}"; do
  case $kind in
    kill-rank | kill-mpirun | term-rank | usr1-rank | stop-rank | disk-full | flip-gradient | flip-parameter) ;;
    silent-host | link-down | link-short) ;;
    *) die "KINDS: '$kind' is no kind of fault; benchmarks/soak.sh --help lists them" ;;
  esac
done
read -ra settings <<<"${SETTINGS:-}"

need_program

mkdir -p "$out"
rm -rf -- "$out/logs" "$out/undisturbed" "$out/results.json"
disk=$(mktemp -d "$out/disk.XXXXXX")
is_mounted="" has_hosts=""
emulated=$PWD/benchmarks/emulated-hosts.sh
# shellcheck disable=SC2317  # called by the trap
clean_up() {
  if [[ -n $has_hosts ]]; then "$emulated" down; fi
  if [[ -n $is_mounted ]]; then umount "$disk"; fi
  rm -rf -- "$disk"
}
trap clean_up EXIT
# An interrupt ends the script, and that cleans up.
trap 'exit 130' INT TERM

small_disk=false
if ((EUID == 0)); then
  # A checkpoint is at most six times the model's file: parameters and two moments in fp32, of 16 bits.
  megabytes=${DISK_MB:-$(du -sm -- "$model" | awk '{ print 48 + $1 * 6 * 6 }')}
  if mount -t tmpfs -o "size=${megabytes}m,mode=700" orpo-dist-soak "$disk" 2>/dev/null; then
    is_mounted=yes
    small_disk=true
  fi
fi

if ((hosts > 1)); then
  if ((EUID != 0)); then die "HOSTS=$hosts: network namespaces need root"; fi
  "$emulated" up "$hosts"
  has_hosts=yes
fi

{
  cat <<YAML
model_name_or_path: $model
train_file: $data
eval_file: $held_out
per_device_train_batch_size: 1
max_length: $max_length
learning_rate: 5e-4
lr_scheduler_type: constant
reproducible: true
logging_steps: 1
save_total_limit: 3
YAML
  for setting in "${settings[@]}"; do printf '%s: %s\n' "${setting%%=*}" "${setting#*=}"; done
} >"$out/run.yaml"

words() { printf '"%s",' "$@" | sed 's/,$//'; }
numbers() { printf '%s,' "$@" | sed 's/,$//'; }
mpirun=(mpirun --oversubscribe --bind-to none --mca mpi_yield_when_idle 1 --mca btl "self,vader" --mca plm isolated)
if ((EUID == 0)); then mpirun+=(--allow-run-as-root); fi
host_options
mpirun_hosts=(mpirun "${HOST_OPTIONS[@]}" --oversubscribe --bind-to none --mca mpi_yield_when_idle 1
  --mca plm rsh --mca plm_rsh_agent "$emulated rsh" --mca btl_tcp_if_include 10.99.0.0/24 --mca oob_tcp_if_include 10.99.0.0/24)
cat >"$out/settings.json" <<JSON
{"program": "$orpo", "config": "$out/run.yaml", "out": "$out", "disk": "$disk", "has_small_disk": $small_disk,
 "mpirun": [$(words "${mpirun[@]}")], "mpirun_hosts": [$(words "${mpirun_hosts[@]}")], "emulated": "$emulated", "hosts": $hosts, "launching": "$PWD/launch/jobs.sh",
 "cores": $(usable_cores), "ranks": [$(numbers "${rank_counts[@]}")], "pairs": $pairs,
 "kinds": [$(words "${kinds[@]}")], "duration": $duration, "fault_every": $fault_every, "min_faults": $min_faults, "seed": $seed,
 "at_start": $(awk -v share="$at_start" 'BEGIN { print share + 0 }'), "save_seconds": $save_seconds, "save_steps": $save_steps,
 "hang_seconds": $hang_seconds, "kill_seconds": $kill_seconds, "stop_seconds": $stop_seconds}
JSON

say "$duration s of training with a fault about every $fault_every s, logs in $out/logs"
# In the background, so that an interrupt of this script is passed on at once and ends the job as well.
python3 benchmarks/soak.py "$out/settings.json" &
driver=$!
trap 'kill -TERM "$driver" 2>/dev/null; wait "$driver" || true; exit 130' INT TERM
status=0
wait "$driver" || status=$?
if ((status != 0)) && [[ -d $disk/run ]]; then
  rm -rf -- "$out/failed"
  cp -r -- "$disk" "$out/failed"
  printf 'soak.sh: a criterion was missed; what the runs left is in %s\n' "$out/failed" >&2
fi
exit "$status"
