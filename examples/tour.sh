#!/usr/bin/env bash
# The first command of the README: installs the Debian packages that are missing, builds policyc, and
# shows what it does on the worlds in this folder. Safe to run again; quick the second time.
#
#   examples/tour.sh            build and tour
#   examples/tour.sh --no-build tour with the program that is already there
#
# Ends with 0 when every step did what it should, "findings" and "no" included: those are the point.
set -euo pipefail
cd "$(dirname "$0")/.."

if [[ ${1-} != --no-build ]]; then
  .ci/packages.sh build
  # The tests are the second command's business; a build that has them already keeps them.
  tests=OFF
  ! grep -qs '^POLICYC_TESTS:BOOL=ON' build/release/CMakeCache.txt || tests=ON
  .ci/build.sh release "-DPOLICYC_TESTS=$tests"
fi

export PATH="$PWD/build/release:$PATH"
cd examples
out=../build/tour
mkdir -p "$out"
seen=()
wrong=0
color=auto
[[ -t 1 ]] || color=never

bold() { if [[ -t 1 ]]; then printf '\n\033[1m%s\033[0m\n' "$*"; else printf '\n%s\n' "$*"; fi; }

# step EXPECTED-EXIT WHAT-WAS-SEEN COMMAND…: prints the command as one would type it, runs it.
step() {
  local want=$1 what=$2 status=0
  shift 2
  printf '\n$ '
  local word
  for word in "$@"; do
    case $word in
      *[!A-Za-z0-9_./=,:@-]*) printf '"%s" ' "$word" ;;
      *) printf '%s ' "$word" ;;
    esac
  done
  printf '\n'
  "$@" || status=$?
  if ((status == want)); then
    seen+=("$what")
  elif ((status == 3)); then
    seen+=("NOT on this machine: $what")
    echo "[exit 3: this machine cannot do that step; the rest of the tour goes on]"
  else
    wrong=$((wrong + 1))
    seen+=("UNEXPECTED exit code $status, not $want: $what")
  fi
}

bold "1. Lint: policies that look right and are not. Exit code 1 says that something was found."
step 1 "lint found the traps in examples/traps, each with its line and its remedy" \
  policyc lint --color "$color" traps

bold "2. Questions: who may do what, and which rule decides."
step 0 "frontend may GET from backend" \
  policyc query "can frontend GET /items to backend" --expect allow http-get
step 0 "frontend may not POST to backend, and the answer names the rule" \
  policyc query "can frontend POST to backend" --expect deny http-get
step 0 "who can reach the backend at all" \
  policyc query "who can reach backend on 80" http-get

bold "3. Compile: the policy as BPF programs and tables."
step 0 "the policy was compiled to BPF (C, objects, table images) in build/tour/http-get" \
  policyc compile -o "$out/http-get" http-get

# Running programs in the kernel wants root; whoever has sudo is asked for it, here only.
policyc=(policyc)
if ((EUID != 0)) && command -v sudo >/dev/null && { [[ -t 0 ]] || sudo -n true 2>/dev/null; }; then
  policyc=(sudo "$(command -v policyc)")
fi
bold "4. Replay: packets through those programs in this machine's kernel, the proxy model behind them."
step 0 "packets from YAML: drops where the policy drops, GET passes and POST is refused at the proxy" \
  "${policyc[@]}" replay "$out/http-get" --packets http-get/packets.yaml http-get
step 0 "packets from a capture: the same" \
  "${policyc[@]}" replay "$out/http-get" --packets http-get/http.pcap http-get

bold "What you saw"
for line in "${seen[@]}"; do printf '  - %s\n' "$line"; done
cat <<'END'

Next: point it at your own policies:   build/release/policyc lint PATH…
      each example's README:           examples/*/README.md
      all tests:                       tests/run.sh
END
((wrong == 0)) || { echo "$wrong step(s) did not end as they should" >&2; exit 1; }
