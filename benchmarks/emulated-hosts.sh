#!/usr/bin/env bash
# Several hosts on one machine, for measuring what crosses a network: each is a network namespace with an address of its own, all
# joined by a bridge that is in a namespace as well. Root is needed, and iproute2, util-linux.
#
#   benchmarks/emulated-hosts.sh up N [GBIT]     hosts host1 ... hostN; GBIT limits what each of them sends
#   benchmarks/emulated-hosts.sh exec HOST CMD   runs a command there, with a host name, /tmp and /dev/shm of its own
#   benchmarks/emulated-hosts.sh cut HOST        takes its link away: it has gone silent for the others, and they for it
#   benchmarks/emulated-hosts.sh join HOST       and gives it back
#   benchmarks/emulated-hosts.sh down            ends what runs there and removes them
#
# mpirun starts its daemons through this script:
#
#   benchmarks/emulated-hosts.sh exec host1 mpirun --mca plm rsh --mca plm_rsh_agent "$PWD/benchmarks/emulated-hosts.sh rsh" \
#     --mca btl_tcp_if_include 10.99.0.0/24 --mca oob_tcp_if_include 10.99.0.0/24 -H host1:1,host2:1 -n 2 PROGRAM
set -euo pipefail

prefix=orpo-emulated
fabric=$prefix-fabric
network=10.99.0

usage() {
  sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' "${BASH_SOURCE[0]}"
  exit 2
}

fail() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

spaces() { ip netns list | awk -v prefix="$prefix" 'index($1, prefix "-") == 1 { print $1 }'; }

# The namespace of a host, by name or number: host3 or 3.
space_of() {
  local number=${1#host}
  [[ $number =~ ^[1-9][0-9]*$ ]] || fail "'$1' is no host; hosts are host1, host2 and so on"
  [[ -e /run/netns/$prefix-$number ]] || fail "there is no $1; '$0 up N' makes N hosts"
  echo "$prefix-$number"
}

up() {
  local count=$1 gbit=${2:-}
  if [[ ! $count =~ ^[1-9][0-9]*$ ]] || ((count > 200)); then fail "up $count: expected a number of hosts from 1 to 200"; fi
  [[ -z $gbit || $gbit =~ ^[0-9]+([.][0-9]+)?$ ]] || fail "up $count $gbit: expected a number of Gbit/s"
  [[ -z $(spaces) ]] || fail "there are emulated hosts already; '$0 down' removes them"
  # Half a fabric would be in the way of the next one.
  trap 'down' ERR
  ip netns add "$fabric"
  ip -n "$fabric" link add bridge type bridge
  ip -n "$fabric" link set bridge up
  local number space burst
  for ((number = 1; number <= count; number++)); do
    space=$prefix-$number
    ip netns add "$space"
    ip -n "$fabric" link add "port$number" type veth peer name eth0 netns "$space"
    ip -n "$fabric" link set "port$number" master bridge up
    ip -n "$space" address add "$network.$number/24" dev eth0
    ip -n "$space" link set lo up
    ip -n "$space" link set eth0 up
    if [[ -n $gbit ]]; then
      # What may go at once are two milliseconds of the rate: less, and the timer's steps would cost speed.
      burst=$(awk -v gbit="$gbit" 'BEGIN { print int(gbit * 250 + 64) }')
      tc -n "$space" qdisc add dev eth0 root tbf rate "${gbit}gbit" burst "${burst}kb" latency 50ms
    fi
  done
  trap - ERR
}

down() {
  local space
  for space in $(spaces); do
    ip netns pids "$space" | xargs -r kill -KILL 2>/dev/null || true
    ip netns delete "$space"
  done
}

# Names of all hosts, for the one that looks them up.
host_table() {
  echo "127.0.0.1 localhost"
  for space in $(spaces); do
    local number=${space#"$prefix-"}
    if [[ $number =~ ^[0-9]+$ ]]; then echo "$network.$number host$number"; fi
  done
}

run_on() {
  local host=$1 space table
  shift
  space=$(space_of "$host")
  table=$(host_table)
  # A mount namespace of its own: /etc/hosts, /tmp and /dev/shm are the host's; files elsewhere are shared, as on a cluster.
  # shellcheck disable=SC2016
  exec nsenter --net="/run/netns/$space" unshare --mount --uts --ipc bash -c '
    set -e
    name=$1 table=$2
    shift 2
    hostname "$name"
    mount -t tmpfs tmpfs /tmp
    mount -t tmpfs tmpfs /dev/shm
    printf "%s\n" "$table" >/tmp/.hosts
    mount --bind /tmp/.hosts /etc/hosts
    exec "$@"' bash "host${host#host}" "$table" "$@"
}

case ${1:-} in
  up)
    (($# == 2 || $# == 3)) || usage
    up "${@:2}"
    ;;
  down) down ;;
  cut | join)
    (($# == 2)) || usage
    space=$(space_of "$2")
    state=up
    if [[ $1 == cut ]]; then state=down; fi
    ip -n "$fabric" link set "port${space#"$prefix-"}" "$state"
    ;;
  exec)
    (($# >= 3)) || usage
    run_on "${@:2}"
    ;;
  rsh)
    # As a remote shell is called: options, the host, the command as one line.
    shift
    while [[ ${1:-} == -* ]]; do shift; done
    (($# >= 2)) || usage
    host=$1
    shift
    run_on "$host" bash -c "$*"
    ;;
  *) usage ;;
esac
