# shellcheck shell=bash
# Sourced by the scripts beside it: messages, help, cores, where the program is, and how ranks are started on this machine.

say() { printf '\n==> %s\n' "$*"; }

die() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

# Checks a number that a person gave under NAME: a whole one, and not below MINIMUM (1). Bash would take 010 for 8.
need_number() { # NAME VALUE [MINIMUM]
  if [[ ! $2 =~ ^(0|[1-9][0-9]{0,8})$ ]] || (($2 < ${3:-1})); then
    die "$1 '$2': expected a whole number, ${3:-1} or more, without leading zeros"
  fi
}

# Shows a command, then runs it.
run() {
  printf '+ %s\n' "$*"
  "$@"
}

# Cores this process may use: hardware threads of one core count once, and so do a container's CPU limits.
usable_cores() {
  local cores limit quota period file allowed
  # nproc heeds the process's mask (taskset, a cpuset); lscpu lists all, and those outside it are left out: "0-3,8".
  cores=$(nproc)
  allowed=$(awk '/^Cpus_allowed_list:/ { print $2 }' /proc/self/status 2>/dev/null || true)
  limit=$(lscpu -p=CPU,CORE,SOCKET 2>/dev/null | awk -F , -v allowed="$allowed" '
    BEGIN { parts = split(allowed, part, ","); for (i = 1; i <= parts; i++) { split(part[i], ends, "-"); first[i] = ends[1]; last[i] = ends[2] == "" ? ends[1] : ends[2] } }
    function may(cpu, i) { for (i = 1; i <= parts; i++) if (cpu + 0 >= first[i] + 0 && cpu + 0 <= last[i] + 0) return 1; return parts == 0 }
    !/^#/ && may($1) && !seen[$2, $3]++ { cores++ }
    END { print cores + 0 }')
  if ((limit > 0 && limit < cores)); then
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

# The comment at the top of the calling script, which is its help.
show_usage() { sed -n '2,/^set /{/^set /d;/^#SBATCH\|^#PBS/d;s/^# \{0,1\}//;p;}' "$0"; }

# For scripts that take no arguments: any one shows the help.
no_arguments() {
  if (($# == 0)); then return; fi
  show_usage
  if [[ $1 == -h || $1 == --help ]]; then exit 0; else exit 2; fi
}

# The program: ORPO_DIST, else what `swift build -c release` left below ROOT, else what is on the PATH.
find_program() {
  local root=$1
  if [[ -n ${ORPO_DIST:-} ]]; then
    [[ -x $ORPO_DIST ]] || die "ORPO_DIST=$ORPO_DIST: no such program"
    echo "$ORPO_DIST"
  elif [[ -x $root/.build/release/orpo-dist ]]; then
    echo "$root/.build/release/orpo-dist"
  else
    command -v orpo-dist || die "no orpo-dist: neither $root/.build/release/orpo-dist nor on the PATH.
  'swift build -c release --product orpo-dist' builds it, ORPO_DIST= names another place"
  fi
}
