#!/bin/bash
# A training job for PBS Pro (OpenPBS) that saves before its time is over, submits itself again and goes on from there.
#
#   qsub -v ORPO_ARGUMENTS="train --config run.yaml" launch/pbs.sh
#   qsub -l select=8:ncpus=32:mpiprocs=2:ompthreads=16 -l walltime=04:00:00 -v ORPO_ARGUMENTS="train --config run.yaml" launch/pbs.sh
#
# Options of qsub win over the #PBS lines below. Submit it from the project's folder, or hand ORPO_DIST_HOME over. mpiprocs is the ranks
# of a host, ompthreads the cores of each. PBS announces no time limit, so the script looks at its walltime itself: SAVE_SECONDS
# before it is over, and at TERM (qdel) or `qsig -s USR1 JOB`, orpo-dist saves at the end of its step and ends with code 75. At the
# time limit and USR1 the job is then submitted again with the same options. So it is after a failure, such as a lost rank or host,
# unless that came before the start's first step, or twice at the same step with the same message. All starts write to one log as they go,
# orpo-dist-JOB.log where the first one was submitted. Variables for -v, separated by commas
# (a value with commas: `export ORPO_ARGUMENTS=...` and `-v ORPO_ARGUMENTS`):
#
#   ORPO_ARGUMENTS   what orpo-dist is to do; words are divided at spaces
#   SAVE_SECONDS     120
#   RESTART_LIMIT    how often it is submitted again (100)
#   ORPO_DIST        the program, at the same place on all hosts
#   ORPO_DIST_HOME   the project's folder
#
#PBS -N orpo-dist
#PBS -l select=2:ncpus=16:mpiprocs=1:ompthreads=16
#PBS -l place=scatter:excl
#PBS -l walltime=08:00:00
#PBS -r y
#PBS -j oe
set -euo pipefail
# PBS runs a copy of this script that lies elsewhere, and begins in the home directory.
root=${ORPO_DIST_HOME:-${PBS_O_WORKDIR:-$(dirname "${BASH_SOURCE[0]}")/..}}
if [[ ! -r $root/launch/jobs.sh ]]; then
  echo "pbs.sh: $root/launch/jobs.sh is not there: submit from the project's folder or hand over ORPO_DIST_HOME" >&2
  exit 1
fi
# shellcheck source=launch/jobs.sh
source "$root/launch/jobs.sh"
if [[ ${1:-} == -h || ${1:-} == --help ]]; then
  show_usage
  exit 0
fi
[[ -n ${PBS_JOBID:-} ]] || die "this is a job script: qsub -v ORPO_ARGUMENTS=\"train --config run.yaml\" launch/pbs.sh"
[[ -n ${ORPO_ARGUMENTS:-} ]] || die "nothing to do: qsub -v ORPO_ARGUMENTS=\"train --config run.yaml\" launch/pbs.sh"
read -ra arguments <<<"$ORPO_ARGUMENTS"
cd "${PBS_O_WORKDIR:-$root}"
need_number SAVE_SECONDS "${SAVE_SECONDS:-120}" 0
need_number RESTART_LIMIT "${RESTART_LIMIT:-100}" 0
need_number ORPO_RESTARTS "${ORPO_RESTARTS:-0}" 0

job_value() { job_values | awk -v key="$1" '!found && index($0, key " = ") == 1 { print substr($0, length(key) + 4); found = 1 }'; }
# What PBS knows of the job, a line "name = value" each; it folds long ones, and begins what follows with a tab.
job_values() {
  { qstat -f "$PBS_JOBID" 2>/dev/null || true; } | awk '
    /^\t/ { line = line substr($0, 2); next }
    { if (NR > 1) print line; sub(/^ +/, ""); line = $0 }
    END { print line }'
}

program=$(find_program "$root")
# The node file names a host once for each of its ranks.
hosts=$(sort -u "$PBS_NODEFILE" | wc -l)
all_ranks=$(wc -l <"$PBS_NODEFILE")
ranks=$((all_ranks / hosts))
((ranks * hosts == all_ranks)) || die "$all_ranks ranks on $hosts hosts: all hosts must have the same mpiprocs"
# Without ompthreads, PBS sets both of these to the cores of a host's share, which its ranks divide.
cores=${OMP_NUM_THREADS:-${NCPUS:-1}}
if [[ $(job_value Resource_List.select) != *ompthreads=* ]]; then cores=$((${NCPUS:-1} / ranks)); fi
if ((cores < 1)); then cores=1; fi
host_options
shield_from_term
launcher=("${MPIRUN[@]}" --hostfile "$PBS_NODEFILE" -n "$all_ranks" "${HOST_OPTIONS[@]}"
  --map-by "ppr:$ranks:node:PE=$cores" --bind-to core)

# Seconds until SAVE_SECONDS before the end of the walltime; nothing when the job has no limit.
seconds_to_train() {
  local limit used
  limit=$(job_value Resource_List.walltime)
  used=$(job_value resources_used.walltime)
  if [[ ! $limit =~ ^[0-9]+:[0-9]+:[0-9]+$ ]]; then return; fi
  if [[ ! $used =~ ^[0-9]+:[0-9]+:[0-9]+$ ]]; then used=0:0:0; fi
  awk -v limit="$limit" -v used="$used" -v save="${SAVE_SECONDS:-120}" 'BEGIN {
    split(limit, l, ":"); split(used, u, ":")
    seconds = (l[1] - u[1]) * 3600 + (l[2] - u[2]) * 60 + l[3] - u[3] - save
    print (seconds > 1 ? seconds : 1) }'
}

timer=""
stop_timer() { if [[ -n $timer ]]; then kill "$timer" 2>/dev/null || true; fi; }
trap stop_timer EXIT
left=$(seconds_to_train)
if [[ -n $left ]]; then
  # A rank's own signal would do as well, but only the launcher reaches all of them.
  (
    sleep "$left" &
    trap 'kill $!' TERM
    wait $! && kill -USR1 $$
  ) &
  timer=$!
fi

restarts=${ORPO_RESTARTS:-0}
log=${ORPO_LOG:-$PWD/orpo-dist-${PBS_JOBID%%.*}.log}
begin=$(size_of "$log")
# PBS shows its own file only when the job is over.
echo "the log is $log"
exec >>"$log" 2>&1
say "$(date '+%F %T')  job $PBS_JOBID, start $((restarts + 1)), $ranks rank(s) on each of $hosts host(s), ${left:-no limit of} seconds to train"
status=0
run_mpirun "${launcher[@]}" "$program" "${arguments[@]}" || status=$?
stop_timer
echo "$(date '+%F %T')  orpo-dist ended with code $status"
if ((status == 0)); then exit 0; fi
if ((status == taken_over)); then
  echo "another start has taken output_dir over, and goes on: this one is not submitted again"
  exit "$status"
fi
if [[ $last_signal == TERM ]]; then
  echo "qdel, or PBS itself, ends the job: not submitted again; the same qsub goes on from the newest checkpoint"
  exit "$status"
fi
if ((status != start_again)); then worth_another_start "$log" "$begin" || exit "$status"; fi
if ((restarts >= ${RESTART_LIMIT:-100})); then
  echo "started $((restarts + 1)) times already (RESTART_LIMIT): not submitted again; the same qsub goes on from the newest checkpoint"
  exit "$status"
fi

# Everything the user has handed over goes on, so do the job's resources and account. Only names go to -v, which would divide values at
# commas; -V takes the rest of the environment along, such as that of modules.
export ORPO_RESTARTS=$((restarts + 1)) ORPO_LOG=$log ORPO_ARGUMENTS
names=ORPO_RESTARTS,ORPO_LOG,ORPO_ARGUMENTS
for name in SAVE_SECONDS RESTART_LIMIT ORPO_DIST ORPO_DIST_HOME "${!ORPO_DIST_@}" "${!OMPI_MCA_@}"; do
  if [[ -n ${!name:-} && ,$names, != *,$name,* ]]; then
    export "${name?}"
    names+=,$name
  fi
done
submit=(qsub -N "${PBS_JOBNAME:-orpo-dist}" -V)
# What select says of each host's share is also listed as a sum, which qsub refuses beside it.
select=$(job_value Resource_List.select)
while read -r name equals value; do
  [[ $equals == = && -n $value && $value != _pbs_project_default ]] || continue
  resource=${name#Resource_List.}
  if [[ -n $select && :$select == *[:+]"$resource="* ]]; then continue; fi
  case $name in
    Resource_List.nodect | Resource_List.nodes | Resource_List.ncpus | Resource_List.mpiprocs | Resource_List.ompthreads | Resource_List.mem) ;;
    Resource_List.*) submit+=(-l "$resource=$value") ;;
    queue) submit+=(-q "$value") ;;
    Account_Name) submit+=(-A "$value") ;;
    project) submit+=(-P "$value") ;;
  esac
done < <(job_values)
if "${submit[@]}" -v "$names" "$root/launch/pbs.sh"; then
  echo "submitted again as the job above, which goes on from the newest checkpoint"
  exit 0
fi
echo "the job could not be submitted again; the same qsub goes on from the newest checkpoint"
exit "$status"
