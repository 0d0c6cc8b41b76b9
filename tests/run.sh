#!/usr/bin/env bash
# Everything from a fresh machine to green tests: installs the Debian packages that are missing,
# builds the release preset, runs all tests. Safe to run again; quick the second time.
#
#   tests/run.sh [ctest option…]      e.g. tests/run.sh -L golden, tests/run.sh -R lint
#
# POLICYC_REQUIRE_BPF=1 makes the kernel tests fail where bpf() is not permitted; otherwise they
# say that they were skipped. The last line is ctest's own count.
set -euo pipefail
cd "$(dirname "$0")/.."
preset=${POLICYC_PRESET:-release}

.ci/packages.sh test
.ci/build.sh "$preset" -DPOLICYC_TESTS=ON

log=build/$preset/ctest.log
status=0
ctest --preset "$preset" "$@" 2>&1 | tee "$log" || status=$?
# Those that were skipped stand after the count in ctest's output: the count comes last here.
grep -E '^[0-9]+% tests passed' "$log" || echo "tests: ctest did not get as far as a count" >&2
exit "$status"
