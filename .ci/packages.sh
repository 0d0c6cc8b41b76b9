#!/usr/bin/env bash
# .ci/packages.sh build|test: the Debian packages that building (or building and testing) needs.
# Says what is missing, installs it (with sudo where not root), and does nothing, quickly, when all
# is there. On a system without dpkg it prints the list and leaves the choice to you.
set -euo pipefail

# To build and run policyc. llvm-19 and libclang-19 are linked into a module of their own, which
# `compile` opens when it needs it; libzstd and zlib are what LLVM's archives want at link time.
BUILD=(
  g++ cmake ninja-build pkgconf ccache git ca-certificates
  libyaml-dev libyaml-cpp-dev libfmt-dev libcli11-dev nlohmann-json3-dev libre2-dev
  libz3-dev libbpf-dev libpcap-dev
  llvm-19-dev libclang-19-dev libzstd-dev zlib1g-dev
)
# On top of that, to build and run the tests.
TEST=(libgtest-dev librapidcheck-dev cvc5 bpftool iproute2 libcap2-bin)

case "${1-}" in
  build) wanted=("${BUILD[@]}") ;;
  test) wanted=("${BUILD[@]}" "${TEST[@]}") ;;
  *) echo "usage: $0 build|test" >&2; exit 2 ;;
esac

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  echo "This is no Debian system, so nothing is installed. What policyc needs, by Debian's names:"
  printf '  %s\n' "${wanted[*]}"
  exit 0
fi

missing=()
for package in "${wanted[@]}"; do
  state=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
  [[ $state == *installed* && $state != *not-installed* ]] || missing+=("$package")
done
if ((${#missing[@]} == 0)); then
  echo "packages: all ${#wanted[@]} are installed"
  exit 0
fi

as_root=()
if ((EUID != 0)); then
  if ! command -v sudo >/dev/null; then
    echo "These Debian packages are missing, and this user is neither root nor has sudo:" >&2
    printf '  %s\n' "${missing[*]}" >&2
    echo "As root:  apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 3
  fi
  as_root=(sudo)
fi

echo "packages: installing ${#missing[@]} with apt-get, without recommended extras:"
printf '  %s\n' "${missing[*]}"
echo "packages: up to 300 MB to download where all are missing; a few minutes"
# Errors stay visible; the running commentary of apt and dpkg does not.
apt() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive DEBCONF_NOWARNINGS=yes apt-get -qq -y \
    -o Acquire::Retries=3 -o Dpkg::Use-Pty=0 "$@" >/dev/null
}
started=$SECONDS
apt update
apt install --no-install-recommends "${missing[@]}"
echo "packages: done in $((SECONDS - started)) s"
