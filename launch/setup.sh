#!/usr/bin/env bash
# Makes this machine ready to build and run orpo-dist: installs the Debian packages that are missing, checks for Swift.
#
#   launch/setup.sh [--check] [PACKAGE ...]     --check only reports; PACKAGE: further Debian packages wanted
#
# Says nothing when all is there.
set -euo pipefail
# shellcheck source=launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
if [[ ${1:-} == -h || ${1:-} == --help ]]; then
  show_usage
  exit 0
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."

check_only=false
if [[ ${1:-} == --check ]]; then
  check_only=true
  shift
fi

# The libraries of Package.swift's system targets, MPI's commands, and Python with Jinja2, which renders chat templates.
packages=(
  libopenmpi-dev openmpi-bin libdnnl-dev libjansson-dev libutf8proc-dev zlib1g-dev libzstd-dev
  pkg-config python3 python3-jinja2 git "$@"
)
swift_needed=6.1

# What can be found, such as a module's or one's own build, is there whoever has installed it.
found() {
  case $1 in
    libopenmpi-dev) command -v mpicc >/dev/null && pkg-config --exists ompi-c ;;
    openmpi-bin) command -v mpirun >/dev/null ;;
    libdnnl-dev) pkg-config --exists dnnl || cc -E -x c - <<<'#include <dnnl.h>' >/dev/null ;;
    libjansson-dev) pkg-config --exists jansson ;;
    libutf8proc-dev) pkg-config --exists libutf8proc ;;
    zlib1g-dev) pkg-config --exists zlib ;;
    libzstd-dev) pkg-config --exists libzstd ;;
    # Newer releases provide pkg-config through pkgconf.
    pkg-config | git | python3 | shellcheck) command -v "$1" >/dev/null ;;
    python3-pip) python3 -m pip --version >/dev/null ;;
    python3-jinja2) "${ORPO_DIST_PYTHON:-/usr/bin/python3}" -c 'import jinja2' ;;
    *) false ;;
  esac 2>/dev/null
}

installed() { [[ $(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null) == installed ]]; }

missing_packages() {
  local package
  for package in "${packages[@]}"; do
    found "$package" || installed "$package" || echo "$package"
  done
}

install_packages() {
  local -a apt=(apt-get)
  if ((EUID != 0)); then
    # A password can be asked for on a terminal only.
    if ! command -v sudo >/dev/null || ! { [[ -t 0 ]] || sudo -n true 2>/dev/null; }; then
      die "these packages are missing and only an administrator can install them:
    sudo apt-get update && sudo apt-get install -y --no-install-recommends $*"
    fi
    apt=(sudo apt-get)
  fi
  local -a options=(install -y --no-install-recommends -o "Dpkg::Use-Pty=0")
  export DEBIAN_FRONTEND=noninteractive
  say "Installing $*"
  # Package lists may be absent (fresh containers) or so old that the packages they name are gone.
  if ! apt-get install --simulate --no-install-recommends "$@" >/dev/null 2>&1 ||
    ! "${apt[@]}" "${options[@]}" "$@"; then
    "${apt[@]}" update -q || die "apt-get update failed: is the network reachable?"
    "${apt[@]}" "${options[@]}" "$@" ||
      die "apt-get could not install the packages above; its own message says why"
  fi
}

if command -v dpkg-query >/dev/null && command -v apt-get >/dev/null; then
  mapfile -t missing < <(missing_packages)
  if ((${#missing[@]} > 0)); then
    if $check_only; then
      die "missing packages: ${missing[*]} (launch/setup.sh installs them)"
    fi
    install_packages "${missing[@]}"
  fi
else
  # Not Debian: nothing is installed; what can be found is not complained about.
  unfound=()
  for command in mpirun mpicc pkg-config git; do
    command -v "$command" >/dev/null || unfound+=("$command")
  done
  for library in ompi-c jansson libutf8proc zlib libzstd; do
    pkg-config --exists "$library" 2>/dev/null || unfound+=("$library")
  done
  if ((${#unfound[@]} > 0)); then
    die "this is not a Debian or Ubuntu system, and these were not found: ${unfound[*]}
  Install, with their headers: Open MPI 4.1 or newer, oneDNN 2 (libdnnl), Jansson, utf8proc, zlib, Zstandard; pkg-config, git,
  Python 3 with Jinja2."
  fi
fi

# The Python that orpo-dist itself takes.
python=${ORPO_DIST_PYTHON:-/usr/bin/python3}
if [[ -z ${ORPO_DIST_PYTHON:-} && ! -x $python ]]; then python=python3; fi
"$python" -c 'import jinja2' 2>/dev/null ||
  die "$python cannot import jinja2, which renders chat templates: name a Python that can in ORPO_DIST_PYTHON"

if ! command -v swift >/dev/null; then
  die "Swift $swift_needed or newer is needed and not on the PATH: https://www.swift.org/install/linux/"
fi
swift_says=$(swift --version 2>&1) || true
swift_version=$(sed -nE 's/.*Swift version ([0-9]+(\.[0-9]+)*).*/\1/p' <<<"$swift_says" | head -n 1)
if [[ -z $swift_version ]]; then
  die "swift does not run; the packages it needs itself are listed at https://www.swift.org/install/linux/. It says:
    $swift_says"
fi
if [[ $(printf '%s\n' "$swift_needed" "$swift_version" | sort -V | head -n 1) != "$swift_needed" ]]; then
  die "Swift $swift_version is too old, $swift_needed or newer is needed: https://www.swift.org/install/linux/"
fi
