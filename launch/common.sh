# shellcheck shell=bash
# Sourced by the scripts beside it: messages, cores, and how ranks are started on this machine.

say() { printf '\n==> %s\n' "$*"; }

die() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

# Shows a command, then runs it.
run() {
  printf '+ %s\n' "$*"
  "$@"
}

# Cores this process may use: hardware threads of one core count once, and so do a container's CPU limits.
usable_cores() {
  local cores limit quota period file
  cores=$(nproc)
  if limit=$(lscpu -p=CORE,SOCKET 2>/dev/null | grep -v '^#' | sort -u | wc -l) && ((limit > 0 && limit < cores)); then
    cores=$limit
  fi
  quota=max period=100000
  file=/sys/fs/cgroup/cpu.max
  if [[ -r $file ]]; then
    read -r quota period <"$file"
  elif [[ -r /sys/fs/cgroup/cpu/cpu.cfs_quota_us && -r /sys/fs/cgroup/cpu/cpu.cfs_period_us ]]; then
    quota=$(</sys/fs/cgroup/cpu/cpu.cfs_quota_us)
    period=$(</sys/fs/cgroup/cpu/cpu.cfs_period_us)
  fi
  if [[ $quota =~ ^[0-9]+$ && $period =~ ^[0-9]+$ ]] && ((quota > 0 && period > 0)); then
    limit=$(((quota + period - 1) / period))
    if ((limit < cores)); then cores=$limit; fi
  fi
  echo "$cores"
}

# Memory that can be had now, in GB rounded down.
available_memory_gb() { awk '/^MemAvailable:/ { print int($2 / 1048576) }' /proc/meminfo; }

in_container() {
  [[ -e /.dockerenv || -e /run/.containerenv ]] ||
    grep -qaE 'docker|containerd|kubepods|lxc' /proc/1/cgroup 2>/dev/null ||
    { command -v systemd-detect-virt >/dev/null && systemd-detect-virt --quiet --container; }
}

# Containers commonly refuse the system call by which one process reads another's memory, and MPI_Init then fails. As a variable it
# also reaches programs started without mpirun.
if in_container; then export OMPI_MCA_btl_vader_single_copy_mechanism=none; fi

# The words before a program that start it on RANKS ranks of this machine: MPIRUN=(mpirun ...).
#
# Ranks beyond the cores share them and give way while they wait. Otherwise each rank keeps its own cores.
mpirun_for() {
  local ranks=$1 cores
  cores=$(usable_cores)
  MPIRUN=(mpirun -n "$ranks")
  if ((EUID == 0)); then MPIRUN+=(--allow-run-as-root); fi
  if ((ranks > cores)); then
    MPIRUN+=(--oversubscribe --bind-to none --mca mpi_yield_when_idle 1)
  elif ((ranks * 2 > cores)); then
    MPIRUN+=(--bind-to core)
  else
    MPIRUN+=(--map-by "slot:PE=$((cores / ranks))" --bind-to core)
  fi
}
