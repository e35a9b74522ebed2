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

# A failure in one line, from what FILE has after its first BEGIN bytes: the last step in the log and the last words. Not to be had,
# code 1, where not one step was made.
failure_in() {
  local file=$1 begin=$2 step
  step=$(tail -c "+$((begin + 1))" "$file" | { grep -aoE '^step [0-9]+/' || true; } | tail -n 1 | tr -dc '0-9')
  [[ -n $step ]] || return 1
  echo "after step $step: $(tail -c "+$((begin + 1))" "$file" | { grep -avE '^step [0-9]+/|orpo-dist ended with code' || true; } | last_words | without_chance)"
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

# Runs a launcher and hands on its exit code. TERM, INT and USR1 reach it as USR1, which mpirun and srun pass to every rank: orpo-dist
# saves at the end of its step. orpo-dist itself ends at once at a second one; at the third one the launcher is told to end.
run_passing_signals() {
  "$@" &
  wait_passing_signals $!
}

# The same for mpirun, which is ended when it says that the job is over and stays nevertheless: it does so now and then when a rank was
# lost while it started, with no rank left, and would stay for ever.
run_mpirun() {
  local over passed errors mpirun guard status=0
  over=$(mktemp)
  # A signal to all processes of a job is not to cut the log off.
  exec {passed}> >(
    trap '' TERM INT USR1 HUP
    exec tee -p >(exec grep -aE --line-buffered "$words_of_the_end" >"$over") >&2
  )
  errors=$!
  "$@" 2>&"$passed" &
  mpirun=$!
  exec {passed}>&-
  end_when_over "$mpirun" "$over" &
  guard=$!
  wait_passing_signals "$mpirun" || status=$?
  # KILL: a subshell that is not quite there yet would run the traps of this shell.
  { kill -KILL "$guard" && wait "$guard"; } 2>/dev/null || true
  # The last lines; what still holds the other end, such as a remote shell, is not waited for.
  for _ in {1..20}; do
    kill -0 "$errors" 2>/dev/null || break
    sleep 0.05
  done
  rm -f -- "$over"
  return "$status"
}

# What Open MPI 4.1 says when nothing but the end of a job can follow.
words_of_the_end='the job has been aborted|mpirun noticed that process|mpirun has exited due to|MPI_ABORT was invoked'
words_of_the_end+='|has lost communication with a remote daemon|unable to reliably start one or more daemons'

# Ends process MPIRUN when it is still there some time after the file OVER was written to.
end_when_over() {
  local mpirun=$1 over=$2 seconds=$((${ORPO_DIST_END_SECONDS:-30} + 2 * ${ORPO_DIST_SAVE_SECONDS:-1})) never
  # A pipe in which nothing comes: a `sleep` would live on when this process is killed, and keep the log open.
  exec {never}<> <(:)
  until [[ -s $over ]]; do read -rt 1 -u "$never" || true; done
  read -rt "$((seconds + 1))" -u "$never" || true
  echo "mpirun is still there $seconds s after it said that the job is over: ending it" >&2
  kill -TERM "$mpirun" 2>/dev/null || true
  read -rt 5 -u "$never" || true
  kill -KILL "$mpirun" 2>/dev/null || true
}

# Waits for a process and hands on its exit code; signals are passed on meanwhile.
wait_passing_signals() {
  local child=$1 status again name
  # shellcheck disable=SC2064 # the child is known now
  for name in TERM INT USR1; do trap "pass_signal $child $name" "$name"; done
  while true; do
    again=$signals_received status=0
    wait "$child" || status=$?
    # A signal ends `wait`, not the launcher.
    if ((again == signals_received)); then break; fi
  done
  trap - TERM INT USR1
  return "$status"
}

pass_signal() {
  signals_received=$((signals_received + 1))
  # shellcheck disable=SC2034
  last_signal=$2
  if ((signals_received < 3)); then
    printf '%s: passing the signal on as USR1: saving and stopping\n' "$(basename "$0")" >&2
    kill -USR1 "$1" 2>/dev/null || true
  else
    kill -TERM "$1" 2>/dev/null || true
  fi
}
