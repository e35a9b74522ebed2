#!/usr/bin/env bash
# Builds everything and runs every test: the serial ones, those of several ranks under mpirun at 1, 2, 3 and 4 ranks, the
# jobs that must end because a rank fails, orpo-dist's own self-check, and the scripts that restart it.
#
#   launch/test.sh
set -euo pipefail
# shellcheck source=launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
no_arguments "$@"
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# What is under way, for the line that tells of a failure.
step=""
started=$SECONDS
step() {
  step=$*
  say "$step"
}
trap 'status=$?; if ((status != 0)) && [[ -n $step ]]; then
  printf "\nFAILED after %d s: %s\n" $((SECONDS - started)) "$step" >&2; fi' EXIT

launch/setup.sh

step "Build, release configuration, tests included"
# Product by product: `--build-tests` would build the plugins of dependencies, too, and with them a compiler for protocol buffers.
for product in orpo-dist rank-tests orpo-distPackageTests; do run swift build -c release --product "$product"; done
binaries=$(swift build -c release --show-bin-path)

step "Serial tests"
run swift test -c release --skip-build --disable-xctest

for ranks in 1 2 3 4; do
  step "Tests on $ranks rank(s)"
  mpirun_for "$ranks"
  run "${MPIRUN[@]}" "$binaries/rank-tests"
done

step "Jobs that a failing rank must bring down"
run "$binaries/rank-tests" aborts

step "Self-check: orpo-dist without arguments, on 2 ranks"
mpirun_for 2
run "${MPIRUN[@]}" "$binaries/orpo-dist"

step "Scripts that restart orpo-dist"
ORPO_DIST=$binaries/orpo-dist run launch/test-restarts.sh

step=""
say "All tests passed in $((SECONDS - started)) s: serial, on 1, 2, 3 and 4 ranks, failing jobs, self-check, restarts."
