#!/usr/bin/env bash
# Tests of the scripts that start and restart orpo-dist: a signal to launch/local.sh, Ctrl-C, a closed terminal and the script's own end
# save, and end the job with code 75; launch/run-until-done.sh
# trains to the end after a rank is killed, gives up on what cannot work, and keeps the global batch on fewer hosts; of two starts of one
# run the earlier one ends; launch/mpirun-hosts.sh needs cores of its own machine only to bind ranks; an mpirun that does not end with its
# job is ended; launch/slurm.sbatch and launch/pbs.sh queue the job again when another start can help, and only then.
#
#   launch/test-restarts.sh     needs the built program; takes a minute or two
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=launch/jobs.sh
source "$here/jobs.sh"
no_arguments "$@"

program=$(find_program "$here/..")
export ORPO_DIST=$program
# A rank that waits for a killed one is ended after that.
export ORPO_DIST_SAVE_SECONDS=2
scratch=$(mktemp -d)
job=""
clean_up() {
  if [[ -n $job ]]; then kill -KILL "$job" 2>/dev/null || true; fi
  # Ranks that a failed test has left; jobs are in groups of their own.
  pgrep -f "output_dir=$scratch/" | xargs -r kill -KILL 2>/dev/null || true
  rm -rf -- "$scratch"
}
trap clean_up EXIT
golden=$here/../Tests/EndToEndTests/Golden
cat >"$scratch/run.yaml" <<YAML
model_name_or_path: $golden/llama
train_file: $golden/pairs.jsonl
max_length: 256
max_steps: 300
learning_rate: 1e-4
logging_steps: 5
save_steps: 25
threads_per_rank: 1
per_device_train_batch_size: 4
YAML
mkdir "$scratch/whole" "$scratch/stopped" "$scratch/killed"

train() { # OUTPUT COMMAND ...
  local output=$1
  shift
  "$@" train --config "$scratch/run.yaml" "output_dir=$scratch/$output" >>"$scratch/$output.log" 2>&1
}
fail() {
  tail -n 20 "$scratch"/*.log >&2
  die "$*"
}
# Until the job has made what is looked for, or is over.
until_there() {
  while ! compgen -G "$1" >/dev/null; do
    kill -0 "$job" 2>/dev/null || fail "the job ended before there was $1"
    sleep 0.02
  done
}
same_model() {
  cmp "$scratch/whole/model.safetensors" "$scratch/$1/model.safetensors" || fail "$1: not the model of a run that nothing disturbed"
}

train whole "$here/local.sh" --ranks 2 || fail "local.sh ended with $?"

train stopped "$here/local.sh" --ranks 2 &
job=$!
until_there "$scratch/stopped/metrics.jsonl"
# The function's subshell is the job; the script is its child.
kill -TERM "$(pgrep -P "$job" -f launch/local.sh | head -n 1)"
status=0
wait "$job" || status=$?
job=""
((status == start_again)) || fail "local.sh after SIGTERM: code $status, expected $start_again"
train stopped "$here/local.sh" --ranks 2 || fail "local.sh, started again, ended with $?"
same_model stopped
echo "ok: SIGTERM to local.sh ends it with code $start_again, the same command goes on to the same model"

# A terminal of its own for COMMAND; once FILE has something, Ctrl-C is typed, or the terminal closed. The exit code is the command's.
cat >"$scratch/terminal.py" <<'PYTHON'
import os, pty, select, signal, sys, time
what, file, command = sys.argv[1], sys.argv[2], sys.argv[3:]
# Whatever happens, the test ends.
signal.alarm(300)
child, terminal = pty.fork()
if child == 0:
    # As for a shell that somebody has logged in to, however this test was started.
    for name in ("SIGINT", "SIGQUIT", "SIGHUP"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    os.execvp(command[0], command)
began, done = time.time(), False
while True:
    if select.select([terminal], [], [], 0.05)[0]:
        try:
            os.write(1, os.read(terminal, 4096))
        except OSError:
            break
    if not done and (os.path.exists(file) and os.path.getsize(file) > 0 or time.time() - began > 60):
        done = True
        if what == "close":
            break
        os.write(terminal, b"\x03")
os.close(terminal)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
PYTHON
mkdir "$scratch/typed" "$scratch/closed"
train_until() { # type|close OUTPUT SCRIPT ...
  local what=$1 output=$2 status=0
  shift 2
  python3 "$scratch/terminal.py" "$what" "$scratch/$output/metrics.jsonl" "$@" train --config "$scratch/run.yaml" \
    "output_dir=$scratch/$output" max_steps=1000000 save_steps=1000000 >>"$scratch/$output.log" 2>&1 || status=$?
  ((status == start_again)) || fail "$1 in a terminal, $what: code $status, expected $start_again"
  compgen -G "$scratch/$output/checkpoint-*/checkpoint.json" >/dev/null || fail "$1 in a terminal, $what: nothing was saved"
}
train_until type typed "$here/local.sh" --ranks 2
train_until close closed "$here/run-until-done.sh" --ranks 2 --
echo "ok: Ctrl-C and a terminal that is closed save, and end the scripts with code $start_again"

train killed "$here/run-until-done.sh" --ranks 2 --backoff 0 -- &
job=$!
until_there "$scratch/killed/checkpoint-*/checkpoint.json"
kill -KILL "$(pgrep -x -f "$program train .*output_dir=$scratch/killed" | tail -n 1)"
wait "$job" || fail "run-until-done.sh ended with $?"
job=""
[[ -e $scratch/killed/attempts/attempt-002.log ]] || fail "run-until-done.sh did not start again"
grep -q 'attempt 2 .* from checkpoint-' "$scratch/killed/attempts/attempts.log" || fail "it did not go on from a checkpoint"
same_model killed
echo "ok: run-until-done.sh restarts after SIGKILL to a rank, to the same model"

status=0
"$here/run-until-done.sh" --ranks 1 --backoff 0 --log "$scratch/attempts" -- train --config "$scratch/run.yaml" learning_rat=1 \
  >"$scratch/wrong.log" 2>&1 || status=$?
((status != 0)) || fail "a wrong configuration was taken"
[[ $(find "$scratch/attempts" -name 'attempt-*.log' | wc -l) == 2 ]] || fail "expected two attempts at a wrong configuration"
echo "ok: run-until-done.sh gives up at the second identical failure"

# The remote shell and mpirun are stand-ins: what is looked at is how the script chooses hosts and the accumulation.
mkdir "$scratch/bin"
# shellcheck disable=SC2016
printf '#!/bin/sh\n[ "$1" != host2 ]\n' >"$scratch/bin/shell"
# shellcheck disable=SC2016
printf '#!/bin/sh\necho "orpo-dist: called with $*"\n' >"$scratch/bin/mpirun"
chmod +x "$scratch/bin/"*
printf 'host%s slots=2\n' 1 2 3 4 >"$scratch/hosts"
for expected in '3 gradient_accumulation_steps=4' '6 gradient_accumulation_steps=8' '4 -n 2 .*gradient_accumulation_steps=8'; do
  read -r accumulation words <<<"$expected"
  PATH=$scratch/bin:$PATH ORPO_DIST_RSH=$scratch/bin/shell "$here/run-until-done.sh" --hosts "$scratch/hosts" --no-binding \
    --log "$scratch/attempts" -- train --config "$scratch/run.yaml" "gradient_accumulation_steps=$accumulation" >"$scratch/hosts.log" 2>&1 ||
    fail "run-until-done.sh on the hosts that are left ended with $?"
  grep -q 'no answer from: host2' "$scratch/hosts.log" || fail "a dead host was not noticed"
  grep -q -e "called with.*$words" "$scratch/hosts.log" || fail "accumulation $accumulation on 4 hosts, 3 left: expected '$words'"
done
echo "ok: run-until-done.sh leaves out a dead host and keeps the global batch"

# The machine that starts them may have fewer cores than the hosts: a launcher's pod.
ranks=$(($(nproc) + 1))
hosts=("$here/mpirun-hosts.sh" "$scratch/hosts" --ranks-per-host "$ranks")
PATH=$scratch/bin:$PATH "${hosts[@]}" --no-binding -- check >"$scratch/unbound.log" 2>&1 || fail "mpirun-hosts.sh --no-binding ended with $?"
grep -q -e "called with.* -n $((4 * ranks)) .*--bind-to none" "$scratch/unbound.log" || fail "mpirun-hosts.sh --no-binding: expected $ranks unbound ranks a host"
if PATH=$scratch/bin:$PATH "${hosts[@]}" -- check >"$scratch/bound.log" 2>&1; then fail "more bound ranks than cores were taken"; fi
grep -q -e '--no-binding lets ranks share' "$scratch/bound.log" || fail "mpirun-hosts.sh does not say what to do about too few cores"
echo "ok: mpirun-hosts.sh asks for this machine's cores only where ranks are bound"

# A stand-in for an mpirun that stays when all ranks are gone, as Open MPI's does in rare cases, and does not heed TERM.
cat >"$scratch/bin/mpirun" <<'STAND_IN'
#!/bin/bash
trap '' TERM
[[ -e $STAYED ]] && exit 0
: >"$STAYED"
echo "a non-zero exit code. Per user-direction, the job has been aborted." >&2
exec sleep 600
STAND_IN
PATH=$scratch/bin:$PATH STAYED=$scratch/stayed ORPO_DIST_END_SECONDS=0 ORPO_DIST_SAVE_SECONDS=1 \
  "$here/run-until-done.sh" --ranks 1 --backoff 0 --log "$scratch/attempts" -- train --config "$scratch/run.yaml" >"$scratch/stays.log" 2>&1 ||
  fail "run-until-done.sh with an mpirun that stays ended with $?"
grep -q 'mpirun is still there 2 s after' "$scratch/stays.log" || fail "an mpirun that stays was not ended"
echo "ok: an mpirun that stays after the end of its job is ended, and the job started again"

# Both of two starts of one run are this script's: the first gives way to the second.
start_of_twice() { # LOGS
  "$here/run-until-done.sh" --ranks 1 --backoff 0 --log "$scratch/$1" -- train --config "$scratch/run.yaml" "output_dir=$scratch/twice" \
    max_steps=1000000 >>"$scratch/twice.log" 2>&1
}
start_of_twice first &
job=$!
until_there "$scratch/twice/owner.json"
first=$job
start_of_twice second &
job=$!
status=0
wait "$first" || status=$?
((status == taken_over)) || fail "run-until-done.sh, whose run another start has taken over, ended with $status"
kill -0 "$job" || fail "the second of two starts has ended too"
kill -TERM "$(pgrep -P "$job" -f launch/run-until-done.sh | head -n 1)"
status=0
wait "$job" || status=$?
job=""
((status == start_again)) || fail "run-until-done.sh after SIGTERM: code $status, expected $start_again"
echo "ok: of two starts of one run the later one goes on, and the earlier one ends with code $taken_over"

# Whoever kills a script with its process group means the job as well.
mkdir "$scratch/orphan"
setsid "$here/local.sh" --ranks 2 train --config "$scratch/run.yaml" "output_dir=$scratch/orphan" max_steps=1000000 save_steps=1000000 \
  >"$scratch/orphan.log" 2>&1 &
job=$!
until_there "$scratch/orphan/metrics.jsonl"
# It is there before the first step.
until [[ -s $scratch/orphan/metrics.jsonl ]] || ! kill -0 "$job"; do sleep 0.02; done
{ kill -KILL -- "-$job" && wait "$job"; } 2>/dev/null || true
job=""
for _ in {1..200}; do
  if grep -q '"event": "stopped"' "$scratch/orphan/journal.jsonl"; then break; fi
  sleep 0.1
done
grep -q '"event": "stopped"' "$scratch/orphan/journal.jsonl" || fail "the job of a killed local.sh goes on, or was not saved"
echo "ok: the job of a local.sh that was killed saves and stops"

# shellcheck disable=SC2016
printf '#!/bin/sh\n: >"$ASKED"\nsleep 1\n' >"$scratch/bin/shell"
ASKED=$scratch/asked ORPO_DIST_RSH=$scratch/bin/shell "$here/run-until-done.sh" --hosts "$scratch/hosts" --no-binding \
  --log "$scratch/attempts" -- train --config "$scratch/run.yaml" >"$scratch/asking.log" 2>&1 &
job=$!
until_there "$scratch/asked"
kill -TERM "$job"
status=0
wait "$job" || status=$?
job=""
((status == start_again)) || fail "run-until-done.sh after SIGTERM while it asks hosts: code $status, expected $start_again"
grep -q 'stopped by a signal to this script' "$scratch/attempts/attempts.log" || fail "run-until-done.sh does not say that a signal has stopped it"
echo "ok: a signal to run-until-done.sh counts while it asks hosts, too"

# Slurm is a stand-in: what is looked at is what the job's script makes of an exit code, the job's state and its log.
mkdir "$scratch/slurm"
cat >"$scratch/slurm/srun" <<'STAND_IN'
#!/bin/sh
case $* in *" true") echo step >>"$STEPS" && exit 0 ;; esac
echo "arguments: $*"
printf '%b' "$SAYS" >&2
exit "$CODE"
STAND_IN
# Does not answer the first time.
cat >"$scratch/slurm/squeue" <<'STAND_IN'
#!/bin/sh
rm "$SILENT" 2>/dev/null && exit 1
case $* in *--jobs="${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}"* | *--jobs=7\ *) ;; *) exit 1 ;; esac
# The job is over for its script, which a late signal to save must not kill.
kill -USR1 "$PPID"
echo "$START $STATE"
STAND_IN
# Slurm ends the script of a job that it queues again.
cat >"$scratch/slurm/scontrol" <<'STAND_IN'
#!/bin/sh
echo "stand-in: $*" >"$QUEUED"
kill -KILL "$PPID"
STAND_IN
chmod +x "$scratch/slurm/"*
slurm_job() { # queued|ended RESTARTS CODE STATE SAYS [RESTARTS of Slurm's record]
  local expected=$1 restarts=$2 code=$3 ended=0 found=ended steps
  rm -f "$scratch/queued"
  : >"$scratch/steps"
  # As Slurm does, without a word about the script that is killed.
  {
    PATH=$scratch/slurm:$PATH SLURM_JOB_ID=7 SLURM_RESTART_COUNT=$restarts RESTART_LIMIT=3 CODE=$code START=${6:-$restarts} STATE=$4 SAYS=$5 QUEUED=$scratch/queued \
      STEPS=$scratch/steps SILENT=$scratch/silent ORPO_DIST_HOME=$here/.. LAUNCHER=srun bash "$here/slurm.sbatch" train "x=%a" >>"$scratch/slurm.log" 2>"$scratch/slurm.errors" || ended=$?
  } 2>/dev/null
  if grep -qx "stand-in: requeue ${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_}7" "$scratch/queued" 2>/dev/null; then found=queued; fi
  [[ $found == "$expected" ]] || fail "slurm.sbatch, code $code, state $4, start $((restarts + 1)), '$5': $found, expected $expected"
  [[ $found == queued ]] || ((ended == code)) || fail "slurm.sbatch ended with $ended in place of the launcher's $code"
  steps=$(wc -l <"$scratch/steps")
  ((steps == restarts)) || fail "slurm.sbatch, start $((restarts + 1)): its step has number $steps, which another start had or will have"
}
lost='------\nmpirun noticed that process rank 1 with PID 1234 on node b exited on signal 9 (Killed).\n------\n'
missed='orpo-dist: rank 0 of 2 on a: not heard of for 20 s: rank 1 of 2 on b (last: step 7, forward); it is gone\n'
slurm_job ended 0 0 RUNNING 'step 9/9  loss 1\n'
slurm_job queued 0 75 RUNNING 'step 4/9  loss 1\n'
slurm_job queued 1 75 RUNNING ''
slurm_job queued 1 75 SIGNALING ''
: >"$scratch/silent"
slurm_job queued 1 75 RUNNING ''
[[ ! -e $scratch/silent ]] || fail "slurm.sbatch did not ask for the job's state"
slurm_job ended 1 75 RUNNING '' 2
slurm_job ended 1 75 PENDING '' 2
slurm_job ended 3 75 RUNNING ''
slurm_job ended 1 76 RUNNING 'step 4/9  loss 1\n'
slurm_job ended 1 75 COMPLETING ''
slurm_job ended 1 137 CANCELLED 'step 5/9  loss 1\n'
slurm_job ended 0 1 RUNNING 'orpo-dist: no such key\n'
slurm_job queued 0 137 RUNNING "step 5/9  loss 1\n$lost"
slurm_job queued 1 137 RUNNING "step 7/9  loss 1\n$lost"
slurm_job ended 2 137 RUNNING "step 7/9  loss 1\n${lost/1234/4321}"
slurm_job queued 0 1 RUNNING "step 7/9  loss 1\n$missed"
slurm_job ended 1 1 RUNNING "step 7/9  loss 1\n${missed/step 7/step 6}"
slurm_job queued 0 1 RUNNING "first step of this start done: step 8\n$missed"
SLURM_ARRAY_JOB_ID=7 SLURM_ARRAY_TASK_ID=7 slurm_job queued 0 75 RUNNING ''
grep -q 'arguments: .* train x=7$' "$scratch/slurm.log" || fail "slurm.sbatch does not put an array task's number in place of %a"
if RESTART_LIMIT=010 SLURM_JOB_ID=7 ORPO_DIST_HOME=$here/.. bash "$here/slurm.sbatch" train >"$scratch/limit.log" 2>&1; then fail "RESTART_LIMIT=010 was taken"; fi
grep -q "RESTART_LIMIT '010': expected" "$scratch/limit.log" || fail "slurm.sbatch does not tell a wrong RESTART_LIMIT"
grep -q 'failed after step 7: mpirun noticed that process rank 1' "$scratch/slurm.log" || fail "slurm.sbatch does not tell the failure"
echo "ok: slurm.sbatch goes back into the queue when saved or after a failure in training, not when cancelled, given up, at start or twice alike"

# So is PBS: what is looked at is whether the job is submitted again, and with what.
mkdir "$scratch/pbs"
# shellcheck disable=SC2016
printf '#!/bin/sh\necho "arguments: $*"\nprintf %%b "$SAYS" >&2\nexit "$CODE"\n' >"$scratch/pbs/mpirun"
chmod +x "$scratch/pbs/mpirun"
cat >"$scratch/pbs/qstat" <<'STAND_IN'
#!/bin/sh
printf 'Job Id: 12.server\n    Account_Name = sums\n    project = _pbs_project_default\n    queue = long\n    Resource_List.ncpus = 8\n'
printf '    Resource_List.place = scatter\n    Resource_List.select = 2:ncpus=4:mpi\n\tprocs=2:ngpus=1\n    Resource_List.ngpus = 2\n'
printf '    Resource_List.walltime = 01:00:00\n'
STAND_IN
cat >"$scratch/pbs/qsub" <<'STAND_IN'
#!/bin/sh
echo "stand-in: $* with $ORPO_RESTARTS,$ORPO_LOG,$ORPO_ARGUMENTS" >"$QUEUED"
STAND_IN
chmod +x "$scratch/pbs/"*
printf '%s\n' node1 node1 node2 node2 >"$scratch/nodes"
pbs_job() { # queued|ended RESTARTS CODE SAYS
  local expected=$1 restarts=$2 code=$3 ended=0 found=ended
  local log=$scratch/orpo-dist-12.log
  rm -f "$scratch/queued"
  PATH=$scratch/pbs:$PATH PBS_JOBID=12.server PBS_NODEFILE=$scratch/nodes PBS_O_WORKDIR=$scratch ORPO_DIST_HOME=$here/.. \
    ORPO_RESTARTS=$restarts RESTART_LIMIT=3 NCPUS=4 OMP_NUM_THREADS=4 OMPI_MCA_btl=^openib ORPO_ARGUMENTS="train x=1,2" CODE=$code SAYS=$4 QUEUED=$scratch/queued \
    bash "$here/pbs.sh" >"$scratch/pbs.log" 2>&1 || ended=$?
  if [[ -e $scratch/queued ]]; then
    found=queued
    for words in "-V -A sums -q long -l place=scatter -l select=2:ncpus=4:mpiprocs=2:ngpus=1 -l walltime=01:00:00 -v ORPO_RESTARTS,ORPO_LOG,ORPO_ARGUMENTS," \
      ",ORPO_DIST_SAVE_SECONDS," ",OMPI_MCA_btl" " with $((restarts + 1)),$log,train x=1,2"; do
      grep -qF -e "$words" "$scratch/queued" || fail "pbs.sh submits itself without '$words': $(<"$scratch/queued")"
    done
  fi
  [[ $found == "$expected" ]] || fail "pbs.sh, code $code, start $((restarts + 1)), '$4': $found, expected $expected"
  [[ $found == queued ]] || ((ended == code)) || fail "pbs.sh ended with $ended in place of the launcher's $code"
}
pbs_job ended 0 0 'step 9/9  loss 1\n'
pbs_job queued 0 75 'step 4/9  loss 1\n'
pbs_job ended 3 75 'step 4/9  loss 1\n'
pbs_job ended 1 76 'step 4/9  loss 1\n'
pbs_job ended 0 1 'orpo-dist: no such key\n'
pbs_job queued 0 137 "step 5/9  loss 1\n$lost"
pbs_job queued 1 137 "step 7/9  loss 1\n$lost"
pbs_job ended 2 137 "step 7/9  loss 1\n${lost/1234/4321}"
grep -q -e '--map-by ppr:2:node:PE=2 ' "$scratch/orpo-dist-12.log" || fail "pbs.sh does not divide a host's cores by its ranks"
[[ $(grep -c 'start [1-4], 2 rank(s) on each of 2 host(s)' "$scratch/orpo-dist-12.log") == 8 ]] || fail "pbs.sh does not log all starts to one file"
echo "ok: pbs.sh submits itself again when saved or after a failure in training, not at start or twice alike"

# After a scheduler's warning its end is not handed on: ranks would take it for a second signal, and end amid their save.
cat >"$scratch/saver" <<'STAND_IN'
#!/bin/bash
trap 'echo "asked to save" >>"$TOLD"' USR1
echo "runs" >"$TOLD"
for _ in {1..40}; do sleep 0.1; done
exit 75
STAND_IN
chmod +x "$scratch/saver"
TOLD=$scratch/told bash -c 'source "$0"; run_passing_signals "$1"' "$here/jobs.sh" "$scratch/saver" >"$scratch/saver.log" 2>&1 &
job=$!
until_there "$scratch/told"
for signal in USR1 TERM; do
  sleep 0.5
  kill -s "$signal" "$job"
done
status=0
wait "$job" || status=$?
job=""
((status == start_again)) || fail "a launcher that saves after USR1 and TERM: code $status, expected $start_again"
[[ $(grep -c "asked to save" "$scratch/told") == 1 ]] || fail "TERM after USR1 was handed on as a second signal"
echo "ok: a TERM after a warning leaves time to save"
