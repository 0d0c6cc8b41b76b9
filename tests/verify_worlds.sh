#!/usr/bin/env bash
# tests/verify_worlds.sh POLICYC [--open N] FOLDER…: compiles each world in the folders (those with
# config.json or flows.json are worlds of their own) and proves programs and tables. One line for each
# that is not proved, and a summary; exit code 1 where something is refuted or cannot be compiled, where
# more than N worlds (0) are not proved, and where none is. A world without pods has nothing to prove and
# is counted apart.
set -uo pipefail
policyc=$1
shift
most_open=0
if [[ ${1-} == --open ]]; then
  most_open=$2
  shift 2
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export XDG_CACHE_HOME=$work/cache # each program is proved once
proved=0 open=0 nothing=0 wrong=0
declare -i items=0
one() {
  local -a input=("$1")
  [[ -e $1/flows.json ]] && input=(--world "$1")
  rm -rf "$work/out"
  "$policyc" compile --verify -o "$work/out" "${input[@]}" >"$work/log" 2>&1
  local code=$?
  local count
  count=$(sed -n 's/^\([0-9]*\) proved, 0 refuted, 0 not proved$/\1/p' "$work/log")
  items+=${count:-0}
  # Endpoints without a program (POL0501 and the like) are not what is asked here.
  if [[ -n $count ]]; then
    proved=$((proved + 1))
  elif grep -q 'there is no endpoint to compile for' "$work/log"; then
    nothing=$((nothing + 1))
  elif ((code == 4)); then
    open=$((open + 1))
    echo "not proved: $1: $(grep -m1 'not proved\|error' "$work/log")"
  else
    wrong=$((wrong + 1))
    echo "exit code $code: $1: $(grep -m1 'refuted:\|policyc:' "$work/log")"
  fi
}
for folder in "$@"; do
  if [[ -e $folder/flows.json || ! -d $folder ]]; then
    one "${folder%/}"
    continue
  fi
  for world in "$folder"/*/; do one "${world%/}"; done
done
echo "$proved worlds proved ($items items), $open not proved, $nothing without endpoints, $wrong refuted or failed"
((wrong == 0 && proved > 0 && open <= most_open))
