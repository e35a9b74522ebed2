# shellcheck shell=bash
# Sourced by the scripts beside it, with their arguments: help; paths from the environment, seen from where the script was called; and
# what else they have in common. Afterwards the project's folder is the current one.
# shellcheck source=launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../launch/common.sh"
no_arguments "$@"

# A path from the environment; links stay links, as an environment of Python needs it.
path_setting() { if [[ -n ${!1:-} ]]; then realpath -ms -- "${!1}"; fi; }

# shellcheck disable=SC2034  # for the script
{
  model=$(path_setting MODEL)
  data=$(path_setting DATA)
  orpo=$(path_setting ORPO_DIST)
  out=$(path_setting OUT)
  venv=$(path_setting VENV)
}
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit

# The model that launch/quickstart.sh has left, or at least fetched.
quickstart_model() {
  if [[ -f out/quickstart/config.json ]]; then
    echo "$PWD/out/quickstart"
  else
    echo "${XDG_CACHE_HOME:-$HOME/.cache}/orpo-dist/SmolLM2-135M-Instruct.Q4_1.gguf"
  fi
}

# Fills in what is not set of `model` and `data`.
need_model_and_data() {
  model=${model:-$(quickstart_model)}
  [[ -e $model ]] || die "MODEL: there is no $model; run launch/quickstart.sh first, which fetches one, or name another"
  data=${data:-$PWD/data/customer-care/train.jsonl}
  [[ -r $data ]] || die "DATA: $data cannot be read"
}

# Checks variables that are to be whole numbers above 0 and are named like the environment's in small letters.
need_numbers() {
  local name
  for name in "$@"; do need_number "${name^^}" "${!name}"; done
}

need_program() {
  if [[ -z $orpo ]]; then
    say "Building orpo-dist"
    run swift build -c release --product orpo-dist
    orpo=$(swift build -c release --show-bin-path)/orpo-dist
  fi
  [[ -x $orpo ]] || die "ORPO_DIST: $orpo is no program"
}
