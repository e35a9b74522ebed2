#!/usr/bin/env bash
# Trains to the end: starts orpo-dist again whenever it stops early, from its newest complete checkpoint, on the hosts that are left.
#
#   launch/run-until-done.sh [options] -- train --config run.yaml [key=value ...]
#   launch/run-until-done.sh --hosts hosts --ranks-per-host 2 -- train --config run.yaml
#
#   --hosts FILE         host file: hosts are asked before every start (ssh, within 10 s each), those that do not answer are left out
#                        and taken back when they answer again. output_dir must be on a file system that all share
#   --ranks N            without --hosts: ranks on this machine
#   --restarts N         most restarts in all (100)
#   --backoff SECONDS    pause before a restart; doubles with every one without progress, up to 300 s (10)
#   --log DIR            one file an attempt, and attempts.log (default: attempts in output_dir)
#   anything else before -- goes to launch/mpirun-hosts.sh or launch/local.sh
#
# Code 75 (stopped by a signal to a rank), crashes and lost hosts are restarted. On fewer hosts gradient_accumulation_steps grows so that
# the global batch stays; where no whole number does that, on the largest number of hosts with which one does. It gives up when
# two attempts without a step or checkpoint between them end with the same message. TERM, INT (Ctrl-C), HUP
# (a closed terminal, without nohup) and USR1 to this script save, and end it with code 75. Environment: as for launch/mpirun-hosts.sh.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=launch/jobs.sh
source "$here/jobs.sh"
if [[ ${1:-} == -h || ${1:-} == --help ]]; then
  show_usage
  exit 0
fi

# MARK: arguments

hostfile="" ranks="" ranks_per_host=1 restarts=100 backoff=10 log="" options=()
while (($# > 0)) && [[ $1 != -- ]]; do
  case $1 in
    --ranks | --ranks-per-host)
      need_number "$1" "${2:-}"
      if [[ $1 == --ranks ]]; then ranks=$2; else ranks_per_host=$2; fi
      shift
      ;;
    --restarts | --backoff)
      need_number "$1" "${2:-}" 0
      if [[ $1 == --restarts ]]; then restarts=$2; else backoff=$2; fi
      shift
      ;;
    --hosts)
      hostfile=${2:-}
      [[ -r $hostfile ]] || die "--hosts '$hostfile': no such file, or it cannot be read"
      shift
      ;;
    --log)
      log=${2:-}
      [[ -n $log ]] || die "--log: expected a folder"
      shift
      ;;
    *) options+=("$1") ;;
  esac
  shift
done
if (($# < 2)) || [[ $2 != train ]]; then
  show_usage >&2
  exit 2
fi
shift
arguments=("$@")
if [[ -n $hostfile ]]; then
  if [[ -n $ranks ]]; then die "--ranks is for this machine alone; with --hosts: --ranks-per-host"; fi
elif ((ranks_per_host > 1)); then
  die "--ranks-per-host needs --hosts; on this machine alone: --ranks"
fi

# The value of a key: the last key=value argument, else the line of the configuration file, else the default.
setting() {
  local key=$1 value=$2 config="" argument previous=""
  for argument in "${arguments[@]}"; do
    if [[ $previous == --config ]]; then config=$argument; fi
    if [[ $argument == --config=* ]]; then config=${argument#--config=}; fi
    previous=$argument
  done
  if [[ -n $config && -r $config ]]; then
    argument=$(sed -nE "s/^$key:[[:space:]]*(.*)\$/\\1/p" "$config" | sed -E 's/[[:space:]]+#.*//; s/[[:space:]]+$//' | tail -n 1)
    if [[ -n $argument ]]; then value=$argument; fi
  fi
  for argument in "${arguments[@]}"; do
    if [[ $argument == "$key="* ]]; then value=${argument#*=}; fi
  done
  value=${value#[\"\']}
  value=${value%[\"\']}
  # The shell's own reading of ~ does not reach variables.
  # shellcheck disable=SC2088
  if [[ $value == '~/'* ]]; then value=$HOME/${value#'~/'}; fi
  echo "$value"
}
output=$(setting output_dir trainer_output)
accumulation=$(setting gradient_accumulation_steps 1)
need_number gradient_accumulation_steps "$accumulation"
log=${log:-$output/attempts}
mkdir -p "$log" || die "the folder for logs cannot be made: $log (--log names another)"

# The terminal may be gone, as may the other end of a pipe.
note() { printf '%s  %s\n' "$(date '+%F %T')" "$*" | (trap '' TERM INT HUP USR1 && exec tee -ap "$log/attempts.log" >&2) || true; }

# MARK: hosts

scratch=$(mktemp -d)
trap 'rm -rf -- "$scratch"' EXIT
if [[ -n $hostfile ]]; then
  sed 's/#.*//' "$hostfile" | awk 'NF && !seen[$1]++' >"$scratch/all"
  count=$(wc -l <"$scratch/all")
  ((count > 0)) || die "$hostfile names no host"
  slots=$((accumulation * count * ranks_per_host))
fi

answers() {
  case $1 in
    localhost | 127.0.0.1 | "$(hostname)" | "$(hostname -s)") return 0 ;;
  esac
  local -a shell=(ssh -o BatchMode=yes -o ConnectTimeout=5)
  if [[ -n ${ORPO_DIST_RSH:-} ]]; then read -ra shell <<<"$ORPO_DIST_RSH"; fi
  timeout --kill-after=2 10 "${shell[@]}" "$1" true </dev/null >/dev/null 2>&1
}

# Writes the host file of the next attempt and sets `overrides`.
choose_hosts() {
  local host line used missing="" alive=0 steps
  rm -f "$scratch"/answers.*
  # All at once: dead hosts take their time.
  local -a probes=()
  while read -r host line; do
    { if answers "$host"; then : >"$scratch/answers.$host"; fi; } &
    probes+=($!)
  done <"$scratch/all"
  wait "${probes[@]}"
  : >"$scratch/alive"
  while read -r host line; do
    if [[ -e $scratch/answers.$host ]]; then
      echo "$host $line" >>"$scratch/alive"
      alive=$((alive + 1))
    else
      missing+=" $host"
    fi
  done <"$scratch/all"
  if [[ -n $missing ]]; then note "no answer from:$missing"; fi
  overrides=()
  for ((used = alive; used > 0; used--)); do
    if ((slots % (used * ranks_per_host) == 0)); then break; fi
  done
  if ((used == 0)); then
    note "none of the $count hosts answers"
    return 1
  fi
  steps=$((slots / (used * ranks_per_host)))
  if ((used < alive)); then
    note "$alive hosts answer, $used are used: $((alive * ranks_per_host)) ranks do not divide gradient_accumulation_steps x ranks = $slots, and another product would change the global batch"
  fi
  if ((steps != accumulation)); then
    overrides=("gradient_accumulation_steps=$steps")
    note "gradient_accumulation_steps=$steps in place of $accumulation keeps the global batch"
  fi
  head -n "$used" "$scratch/alive" >"$scratch/hosts"
}

# MARK: attempts

# What is on disk of the run; changes with every checkpoint.
newest_checkpoint() {
  { find "$output" -maxdepth 1 -name 'checkpoint-*' -printf '%f\n' 2>/dev/null || true; } | sed 's/checkpoint-//' | sort -n | tail -n 1
}

# Whether the program trained or saved anything in the attempt with this log.
made_progress() { [[ $(newest_checkpoint) != "$1" ]] || grep -qaE "$words_of_a_step" "$2"; }

# While a launcher runs, run_passing_signals has traps of its own.
stop_asked=false
trap 'stop_asked=true' TERM INT HUP USR1
ends_when_asked() { # CODE
  if ! $stop_asked; then return; fi
  note "stopped by a signal to this script; the same command goes on"
  exit "$1"
}
attempt=$(find "$log" -maxdepth 1 -name 'attempt-*.log' | wc -l)
started=0 fruitless=0 words="" before=""
while true; do
  attempt=$((attempt + 1))
  file=$log/$(printf 'attempt-%03d.log' "$attempt")
  : >"$file"
  before=$(newest_checkpoint)
  overrides=() status=1
  if [[ -z $hostfile ]]; then
    command=("$here/local.sh")
    if [[ -n $ranks ]]; then command+=(--ranks "$ranks"); fi
    # local.sh takes mpirun's options up to a --.
    if ((${#options[@]} > 0)); then command+=("${options[@]}" --); fi
    where="this machine"
  elif choose_hosts; then
    command=("$here/mpirun-hosts.sh" "$scratch/hosts" --ranks-per-host "$ranks_per_host" "${options[@]}" --)
    where=$(awk '{ print $1 }' "$scratch/hosts" | paste -sd ' ')
  else
    command=(false) where="no host"
  fi
  ends_when_asked "$start_again"
  note "attempt $attempt on $where, from ${before:+checkpoint-}${before:-the beginning}: $file"
  status=0
  run_passing_signals "${command[@]}" "${arguments[@]}" "${overrides[@]}" > >(trap '' TERM INT HUP USR1 && exec tee -ap "$file") 2>&1 || status=$?
  # tee may still be writing the last lines.
  wait || true
  if ((signals_received > 0)); then stop_asked=true; fi
  note "attempt $attempt ended with code $status: $(last_words <"$file")"
  if ((status == 0)); then exit 0; fi
  if ((status == taken_over)); then
    note "another start has taken output_dir over, and goes on: this script ends"
    exit "$status"
  fi
  ends_when_asked "$status"
  started=$((started + 1))
  if ((started > restarts)); then
    note "restarted $restarts times (--restarts): giving up"
    exit "$status"
  fi
  previous=$words words=$(last_words <"$file" | without_chance)
  if made_progress "$before" "$file"; then
    fruitless=0 words=""
  elif ((status != start_again)); then
    fruitless=$((fruitless + 1))
    if [[ $where != "no host" && -n $words && $words == "$previous" ]]; then
      note "twice the same end without a step in between: another start would not help. $file has all of it"
      exit "$status"
    fi
  fi
  pause=$backoff
  for ((i = 1; i < fruitless && pause < 300; i++)); do pause=$((pause * 2)); done
  if ((pause > 300)); then pause=300; fi
  note "next attempt in $pause s"
  sleep "$pause" &
  wait $! || kill $! 2>/dev/null || true
  ends_when_asked "$start_again"
done
