#!/usr/bin/env bash
# Fuzzes everything that reads files from outside, each target for SECONDS (60 when not given): launch/fuzz.sh [SECONDS] [TARGET...]
# What crashes is left in .build-fuzz/crashes/TARGET; what was found interesting, in .build-fuzz/corpus/TARGET, is where the next run begins.
set -euo pipefail
# shellcheck source=launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
if [[ ${1:-} == -h || ${1:-} == --help ]]; then
  show_usage
  exit 0
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."

seconds=${1:-60}
need_number SECONDS "$seconds"
shift || true
targets=("$@")
all=(json safetensors gguf tokenizer config yaml rows manifest)
((${#targets[@]})) || targets=("${all[@]}")
for target in "${targets[@]}"; do
  [[ " ${all[*]} " == *" $target "* ]] || die "no target '$target': ${all[*]}"
done

# A crash is reported by libFuzzer, with the input that led to it; Swift's own backtraces would take its place.
export SWIFT_BACKTRACE=enable=no
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=0
export ORPO_DIST_FUZZ=1

say "Build with coverage and address sanitizer"
run swift build -c release --sanitize=address --scratch-path .build-fuzz --product fuzz
binary=$(swift build -c release --sanitize=address --scratch-path .build-fuzz --show-bin-path)/fuzz

# What a target's first inputs are made of: the files that the tests compare with.
seeds() {
  case $1 in
    json | config) find Tests -path '*Golden*' -name '*.json' -size -40k ;;
    safetensors) find Tests -path '*Golden*' -name '*.safetensors' -size -40k ;;
    gguf) find Tests -path '*Golden*' -name '*.gguf' -size -40k ;;
    tokenizer) find Tests -path '*Golden*' -name 'tokenizer.json' -size -40k ;;
    yaml) find configs -name '*.yaml' ;;
    rows) find Tests data -name '*.jsonl' -size -40k; find Tests -name 'rows.*' ;;
    manifest) find Tests/Fuzz/Seeds -name 'checkpoint.json' ;;
  esac
}

failed=()
for target in "${targets[@]}"; do
  say "$target, $seconds s"
  corpus=.build-fuzz/corpus/$target
  crashes=.build-fuzz/crashes/$target
  mkdir -p "$corpus" "$crashes"
  while IFS= read -r file; do
    name=$(cksum <"$file" | tr ' ' -)
    # The first byte of rows says how they are laid out.
    if [[ $target == rows ]]; then { printf '%s' "$((${#file} % 2))"; cat "$file"; } >"$corpus/$name"; else cp "$file" "$corpus/$name"; fi
  done < <(seeds "$target")
  ORPO_DIST_FUZZ_TARGET=$target "$binary" -max_total_time="$seconds" -max_len=65536 -timeout=20 -rss_limit_mb=3000 \
    -print_final_stats=1 -verbosity=0 -artifact_prefix="$crashes/" "$corpus" || failed+=("$target")
done

if ((${#failed[@]})); then
  echo "fuzz.sh: found something in: ${failed[*]}; the inputs are in .build-fuzz/crashes" >&2
  exit 1
fi
say "Nothing found in ${#targets[@]} targets."
