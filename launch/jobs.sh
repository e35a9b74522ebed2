# shellcheck shell=bash
# Sourced by the scripts that start jobs, with common.sh: what mpirun needs on several hosts and under schedulers, how signals reach a job,
# what its end means, and whether another start is worth while.
# shellcheck source=launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# What mpirun needs on several hosts: HOST_OPTIONS=(...).
#
# A host that has silently gone is noticed within about 15 s in place of minutes. A job that lost a rank takes mpirun twice the kill
# timeout to end: it sleeps once before TERM and once before KILL, even when all ranks are gone, and passes no signal on meanwhile.
# Hence it is short; the time to save comes from stopping with USR1.
# Shared libraries and Python are looked for where they are here.
host_options() {
  local name
  HOST_OPTIONS=(
    --mca oob_tcp_keepalive_time 5 --mca oob_tcp_keepalive_intvl 2 --mca oob_tcp_keepalive_probes 3
    --mca odls_base_sigkill_timeout "${ORPO_DIST_SAVE_SECONDS:-1}"
  )
  if ((EUID == 0)); then HOST_OPTIONS+=(--allow-run-as-root); fi
  for name in PATH LD_LIBRARY_PATH ORPO_DIST_PYTHON; do
    if [[ -n ${!name:-} ]]; then HOST_OPTIONS+=(-x "$name"); fi
  done
}

# The words that start mpirun where a scheduler sends TERM to every process of a job, before it ends it: MPIRUN=(mpirun ...).
#
# mpirun would end the job seconds later, and its daemons on other hosts at once, saved or not. They have TERM blocked here, the ranks do
# not inherit that and save.
shield_from_term() {
  MPIRUN=(mpirun)
  if env --block-signal=TERM true 2>/dev/null; then
    MPIRUN=(env --block-signal=TERM mpirun --mca orte_launch_agent "env --block-signal=TERM orted")
  else
    say "this env has no --block-signal (coreutils 8.31): what is not in a checkpoint may be lost when the scheduler ends the job"
  fi
}

# MARK: the end of a job

# Exit code of orpo-dist that means: saved because of a signal, start me again.
# shellcheck disable=SC2034
start_again=75
# And: another start of this run has taken its output_dir over, do not start me again.
# shellcheck disable=SC2034
taken_over=76

# The last line of the program's own among those given, else the launcher's last, or the first of its last box between dashes.
last_words() {
  awk '
    /^orpo-dist: / { own = $0 }
    /^---+$/ { box = !box; begins = box; next }
    /[^[:space:]]/ && (begins || !box) { last = $0; begins = 0 }
    END { print own != "" ? own : last }'
}

# Leaves out what differs by chance between two failures of one kind: numbers of processes, times, and how much of a lost rank's step was
# heard of.
without_chance() { sed -E 's/ \(last: [^)]*\)//; s/[0-9]{3,}/N/g'; }

# How a line begins that tells of a step: those of logging_steps, and one after a start's first step.
words_of_a_step='^step [0-9]+/|^first step of this start done: step [0-9]+'

# A failure in one line, from what FILE has after its first BEGIN bytes: the last step told of and the last words. Not to be had,
# code 1, where not one step was made.
failure_in() {
  local file=$1 begin=$2 step
  step=$(tail -c "+$((begin + 1))" "$file" | { grep -aoE "$words_of_a_step" || true; } | tail -n 1 | tr -dc '0-9')
  [[ -n $step ]] || return 1
  echo "after step $step: $(tail -c "+$((begin + 1))" "$file" | { grep -avE "$words_of_a_step|orpo-dist ended with code" || true; } | last_words | without_chance)"
}

# Bytes of a file; 0 where there is none.
size_of() { if [[ -f $1 ]]; then stat --format=%s "$1"; else echo 0; fi; }

# Whether a job that failed is worth another start: not when it failed before its first step, nor twice in the same way. LOG has all
# starts of the job, the last one from its byte BEGIN on; the failure is written to standard output for the next one, so to LOG.
worth_another_start() {
  local log=$1 begin=$2 failure before
  if [[ ! -f $log ]] || ! failure=$(failure_in "$log" "$begin"); then
    echo "failed before its first step: not started again"
    return 1
  fi
  before=$(head -c "$begin" "$log" | { grep -a '^failed after step ' || true; } | tail -n 1)
  echo "failed $failure"
  if [[ $before == "failed $failure" ]]; then
    echo "twice the same failure: not started again"
    return 1
  fi
}

# MARK: while a job runs

# Signals that came so far, to be passed on or acted upon.
# shellcheck disable=SC2034
signals_received=0 last_signal=""

# Runs a launcher and hands on its exit code. TERM, INT, HUP and USR1 reach it as USR1, which mpirun and srun pass to every rank:
# orpo-dist saves at the end of its step. orpo-dist itself ends at once at a second one, which one of another kind is not; at the third one
# the launcher is told to end.
run_passing_signals() {
  local launcher
  start_apart "$@"
  launcher=$apart
  start_apart guard_launcher "$launcher" /dev/null
  wait_guarded "$launcher" "$apart"
}

# The same for mpirun, which is ended when it says that the job is over and stays nevertheless: it does so now and then when a rank was
# lost while it started, with no rank left, and would stay for ever.
run_mpirun() {
  local over passed errors mpirun status=0
  over=$(mktemp)
  # A signal to all processes of a job is not to cut the log off.
  exec {passed}> >(
    trap '' TERM INT USR1 HUP
    # Nor is the end of the script's group.
    set -m
    tee -p >(exec grep -aE --line-buffered "$words_of_the_end" >"$over") <&0 >&2 &
    wait
  )
  errors=$!
  start_apart "$@" 2>&"$passed"
  mpirun=$apart
  exec {passed}>&-
  start_apart guard_launcher "$mpirun" "$over"
  wait_guarded "$mpirun" "$apart" || status=$?
  # The last lines; what still holds the other end, such as a remote shell, is not waited for.
  for _ in {1..20}; do
    kill -0 "$errors" 2>/dev/null || break
    sleep 0.05
  done
  rm -f -- "$over"
  return "$status"
}

# Starts a command in a process group of its own; its number is then in `apart`. A terminal sends Ctrl-C, and its own end, to the whole
# group of a script, and mpirun would end the job at once, saved or not.
start_apart() {
  set -m
  "$@" </dev/null &
  apart=$!
  set +m
}

# Waits for a launcher, then ends its guard; the launcher's exit code.
wait_guarded() {
  local status=0
  wait_passing_signals "$1" || status=$?
  # KILL: a subshell that is not quite there yet would run the traps of this shell.
  { kill -KILL "$2" && wait "$2"; } 2>/dev/null || true
  return "$status"
}

# What Open MPI 4.1 says when nothing but the end of a job can follow.
words_of_the_end='the job has been aborted|mpirun noticed that process|mpirun has exited due to|MPI_ABORT was invoked'
words_of_the_end+='|has lost communication with a remote daemon|unable to reliably start one or more daemons'

# Ends process LAUNCHER when it is still there some time after the file OVER was written to. When the script is killed, and can pass
# nothing on any more, its job saves and stops: it is in a group of its own, and whoever ends the script's group means the job.
guard_launcher() {
  local launcher=$1 over=$2 seconds=$((${ORPO_DIST_END_SECONDS:-30} + 2 * ${ORPO_DIST_SAVE_SECONDS:-1})) never told=false
  # A signal to all processes of a job is not for this one.
  trap '' TERM INT HUP USR1
  # A pipe in which nothing comes: a `sleep` would live on when this process is killed, and keep the log open.
  exec {never}<> <(:)
  until [[ -s $over ]]; do
    kill -0 "$launcher" 2>/dev/null || return 0
    if ! $told && ! kill -0 $$ 2>/dev/null; then
      kill -USR1 "$launcher" 2>/dev/null || true
      told=true
    fi
    read -rt 1 -u "$never" || true
  done
  read -rt "$((seconds + 1))" -u "$never" || true
  kill -0 "$launcher" 2>/dev/null || return 0
  echo "mpirun is still there $seconds s after it said that the job is over: ending it" >&2 || true
  kill -TERM "$launcher" 2>/dev/null || true
  read -rt 5 -u "$never" || true
  kill -KILL "$launcher" 2>/dev/null || true
}

# Waits for a process and hands on its exit code; signals are passed on meanwhile. After it the traps from before hold, and USR1 does
# nothing where there was none: it asks to save, and comes too late for that. HUP comes when a terminal is closed; where it was ignored
# from the start (nohup), it still is.
wait_passing_signals() {
  local child=$1 status again name before
  before=$(trap -p TERM INT HUP USR1)
  # shellcheck disable=SC2064 # the child is known now
  for name in TERM INT HUP USR1; do trap "pass_signal $child $name" "$name"; done
  while true; do
    again=$signals_received status=0
    wait "$child" || status=$?
    # A signal ends `wait`, not the launcher.
    if ((again == signals_received)); then break; fi
  done
  trap - TERM INT HUP
  # Not '', which the next launcher would inherit.
  trap : USR1
  eval "$before"
  return "$status"
}

pass_signal() {
  local earlier=$last_signal
  signals_received=$((signals_received + 1))
  last_signal=$2
  if ((signals_received == 2)) && [[ $2 != "$earlier" ]]; then
    # As at a scheduler's limit, after its warning: another USR1 would end the ranks amid their save.
    printf '%s: the job is saving already\n' "$(basename "$0")" >&2 || true
  elif ((signals_received < 3)); then
    # The terminal may be gone.
    printf '%s: passing the signal on as USR1: saving and stopping\n' "$(basename "$0")" >&2 || true
    kill -USR1 "$1" 2>/dev/null || true
  else
    kill -TERM "$1" 2>/dev/null || true
  fi
}
