#!/usr/bin/env bash
# Starts orpo-dist on the ranks of this machine, each with cores of its own.
#
#   launch/local.sh [--ranks N] [mpirun options --] orpo-dist arguments
#   launch/local.sh --ranks 2 train --config run.yaml learning_rate=2e-5
#   launch/local.sh --ranks 4 --mca btl ^openib -- train --config run.yaml
#
# Without --ranks: one for each socket. TERM, INT (Ctrl-C), HUP (a closed terminal, without nohup) and USR1 make
# orpo-dist save at the end of its step and end with code 75; the same command then goes on from there. The exit code is orpo-dist's.
# ORPO_DIST= names another program.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=launch/jobs.sh
source "$root/launch/jobs.sh"
case ${1:-} in
  -h | --help)
    show_usage
    exit 0
    ;;
esac

ranks=$(lscpu -p=SOCKET 2>/dev/null | grep -v '^#' | sort -u | wc -l || true)
if ((ranks < 1)); then ranks=1; fi
if [[ ${1:-} == --ranks ]]; then
  ranks=${2:-}
  need_number --ranks "$ranks"
  shift 2
fi
# Everything before -- is mpirun's; without it, all is orpo-dist's.
options=()
if [[ ${1:-} == -* ]]; then
  while (($# > 0)) && [[ $1 != -- ]]; do
    options+=("$1")
    shift
  done
  (($# > 0)) || die "mpirun's options end with --, and orpo-dist's arguments follow"
  shift
fi

program=$(find_program "$root")
mpirun_for "$ranks"
host_options
run_mpirun "${MPIRUN[@]}" "${HOST_OPTIONS[@]}" "${options[@]}" "$program" "$@"
