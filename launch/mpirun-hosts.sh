#!/usr/bin/env bash
# Starts orpo-dist on the hosts of a host file: one host a line, the first one runs rank 0. All hosts get the same number of
# ranks, each bound to cores of its own.
#
#   launch/mpirun-hosts.sh HOSTFILE [options] [mpirun options] -- orpo-dist arguments
#   launch/mpirun-hosts.sh hosts --ranks-per-host 2 --                 the self-check
#   launch/mpirun-hosts.sh hosts --ranks-per-host 2 --cores-per-rank 16 -- train --config run.yaml
#
#   --ranks-per-host N   default 1
#   --cores-per-rank N   default: the cores of this machine divided by the ranks
#   --no-binding         ranks use whatever cores they get: containers with a share of the CPU; set threads_per_rank then
#   --interface NAME     network interface or address range (eth0, 10.1.0.0/16), where hosts have several
#
# TERM, INT (Ctrl-C), HUP (a closed terminal, without nohup) and USR1 become USR1 for mpirun, which hands it to all
# ranks: orpo-dist saves at the end of its step and ends with code 75. The exit code is orpo-dist's, as mpirun hands it on. Environment:
#
#   ORPO_DIST               the program, at the same place on all hosts
#   ORPO_DIST_RSH           remote shell in place of ssh
#   ORPO_DIST_SAVE_SECONDS  time mpirun waits before TERM, and again before KILL, when it ends a job that lost a rank (1)
#   ORPO_DIST_END_SECONDS   time after which mpirun is killed when it has said that the job is over and does not end (30)
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=launch/jobs.sh
source "$root/launch/jobs.sh"
case ${1:-} in
  -h | --help)
    show_usage
    exit 0
    ;;
  '' | -*)
    show_usage >&2
    exit 2
    ;;
esac

hostfile=$1
shift
[[ -r $hostfile ]] || die "$hostfile: no such host file, or it cannot be read"
hosts=$(sed 's/#.*//' "$hostfile" | awk 'NF { print $1 }' | sort -u | wc -l)
((hosts > 0)) || die "$hostfile names no host"

ranks=1 cores="" bind=true interface="" options=()
while (($# > 0)) && [[ $1 != -- ]]; do
  case $1 in
    --ranks-per-host)
      need_number "$1" "${2:-}"
      ranks=$2
      shift
      ;;
    --cores-per-rank)
      need_number "$1" "${2:-}"
      cores=$2
      shift
      ;;
    --no-binding) bind=false ;;
    --interface)
      interface=${2:-}
      [[ -n $interface ]] || die "--interface: expected a name"
      shift
      ;;
    *) options+=("$1") ;;
  esac
  shift
done
(($# > 0)) || die "-- is missing: orpo-dist's arguments follow after it; none there means the self-check"
shift

program=$(find_program "$root")
host_options
command=(mpirun --hostfile "$hostfile" -n "$((hosts * ranks))" "${HOST_OPTIONS[@]}")
if $bind; then
  if [[ -z $cores ]]; then
    cores=$(($(usable_cores) / ranks))
    ((cores > 0)) || die "$ranks ranks a host, but this machine has $(usable_cores) cores: --cores-per-rank says what the hosts have, --no-binding lets ranks share"
  fi
  command+=(--map-by "ppr:$ranks:node:PE=$cores" --bind-to core)
else
  # Nothing is asked of this machine's cores: a launcher's pod has fewer than its workers.
  command+=(--map-by "ppr:$ranks:node" --bind-to none --oversubscribe)
fi
if [[ -n ${ORPO_DIST_RSH:-} ]]; then command+=(--mca plm rsh --mca plm_rsh_agent "$ORPO_DIST_RSH"); fi
if [[ -n $interface ]]; then
  command+=(--mca btl_tcp_if_include "$interface" --mca oob_tcp_if_include "$interface")
fi
run_mpirun "${command[@]}" "${options[@]}" "$program" "$@"
