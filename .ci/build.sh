#!/usr/bin/env bash
# .ci/build.sh PRESET [cmake option…]: configures and builds one preset, saying where the time goes.
set -euo pipefail
cd "$(dirname "$0")/.."
preset=$1
shift
started=$SECONDS
echo "build: preset '$preset' in build/$preset"
# Configuring again with the same options costs a second and changes nothing.
mkdir -p "build/$preset"
log=build/$preset/configure.log
cmake --preset "$preset" "$@" >"$log" 2>&1 || {
  cat "$log"
  exit 1
}
# One job a core, but no more than memory can carry: the clang module takes about 1 GB to compile.
jobs=$(nproc)
memory_gb=$(awk '/^MemAvailable/ {print int($2 / 1048576)}' /proc/meminfo 2>/dev/null || echo "$jobs")
((memory_gb >= jobs)) || jobs=$((memory_gb > 1 ? memory_gb : 1))
cmake --build --preset "$preset" -j "$jobs"
echo "build: done in $((SECONDS - started)) s"
