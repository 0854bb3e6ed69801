#!/usr/bin/env bash
# Brings a machine with Node, npm and Debian's registry to a built checkout. Safe to run again: quick when nothing is missing.
#   scripts/setup.sh          compiler, libraries, node_modules, build/ and dist/
#   scripts/setup.sh --lint   the lint tools as well
#   scripts/setup.sh --tests  data that some tests want, too; without them those tests are skipped
# Exit codes: 2 when this machine lacks something that the script may not install, else that of the step that failed.
# Everything goes to stderr, so that the callers' stdout holds their own output alone.
set -euo pipefail
cd "$(dirname "$0")/.."
exec 1>&2

kMinNode=20.19
kMinGxx=12
kMinCmake=3.18
cxx=${CXX:-g++}
missing=() # Debian packages

say() { printf 'setup: %s\n' "$*"; }
refuse() {
  say "$*"
  exit 2
}
have() { command -v "$1" >/dev/null 2>&1; }
# at_least VERSION MINIMUM, both dotted numbers
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

check_node() {
  have node || refuse "Expected Node >= $kMinNode on the PATH but found none"
  local version
  version=$(node -p process.versions.node)
  at_least "$version" "$kMinNode" || refuse "Expected Node >= $kMinNode but found $version ($(command -v node))"
  have npm || refuse "Expected npm on the PATH beside Node $version but found none"
}

gxx_fits() { have "$cxx" && at_least "$("$cxx" -dumpfullversion -dumpversion)" "$kMinGxx"; }
cmake_version() { cmake --version | sed -n 's/^cmake version \([0-9.]*\).*/\1/p'; }
cmake_fits() { have cmake && at_least "$(cmake_version)" "$kMinCmake"; }
has_header() { printf '#if !__has_include(<%s>)\n#error\n#endif\n' "$1" | "$cxx" -E -x c++ - >/dev/null 2>&1; }
# g++ answers with a path when the linker would find the file, and with the bare name otherwise.
has_library() { [ "$("$cxx" -print-file-name="lib$1.so")" != "lib$1.so" ] || [ "$("$cxx" -print-file-name="lib$1.a")" != "lib$1.a" ]; }

# package PACKAGE CHECK…: the package is missing when the check fails
package() {
  local name=$1
  shift
  "$@" || missing+=("$name")
}

find_missing() {
  missing=()
  package g++ gxx_fits
  package cmake cmake_fits
  have ninja || package make have make
  package libdnnl-dev headers_and_library oneapi/dnnl/dnnl.hpp dnnl
  package libhwy-dev headers_and_library hwy/highway.h hwy
  package nlohmann-json3-dev has_header nlohmann/json.hpp
  package doctest-dev has_header doctest/doctest.h
  if [ "$lint" = yes ]; then
    package clang-format-19 have clang-format-19
    package clang-tidy-19 have clang-tidy-19
    package git have git
    package g++-12-aarch64-linux-gnu have aarch64-linux-gnu-g++-12
  fi
}

# ONNX's own backend tests.
kTestData=libonnx-testdata
has_test_data() { [ -d /usr/share/libonnx-testdata ]; }

# Nothing that the build needs: where they cannot be had the tests say so.
want_test_data() {
  has_test_data && return
  missing=("$kTestData")
  (install_missing) || say "goes on without $kTestData"
}
headers_and_library() { has_header "$1" && has_library "$2"; }

install_missing() {
  local root=()
  have apt-get || refuse "needs the Debian packages ${missing[*]} (or their like), and there is no apt-get to install them with"
  if [ "$(id -u)" != 0 ]; then
    if ! have sudo || ! sudo -n true 2>/dev/null; then
      refuse "needs root once, for: apt-get update && apt-get install -y --no-install-recommends ${missing[*]}"
    fi
    root=(sudo -n)
  fi
  say "installing ${missing[*]}"
  "${root[@]}" apt-get update -q
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
  hash -r
}

check_tools() {
  find_missing
  [ ${#missing[@]} -eq 0 ] && return
  install_missing
  find_missing
  [ ${#missing[@]} -eq 0 ] ||
    refuse "still lacks ${missing[*]} after installing: needs g++ >= $kMinGxx ($cxx), cmake >= $kMinCmake and the rest of the list"
}

# npm writes node_modules/.package-lock.json last, so an interrupted install does not look finished.
install_node_modules() {
  local stamp=node_modules/.package-lock.json
  if [ -f "$stamp" ] && ! [ package-lock.json -nt "$stamp" ]; then return; fi
  say "npm ci"
  npm ci --ignore-scripts --no-audit --no-fund
  touch "$stamp"
}

say_cuda() {
  if have nvcc; then
    say "CUDA: nvcc found; the CUDA backend is not built yet"
  else
    say "CUDA: off (no nvcc)"
  fi
}

lint=no
tests=no
for argument in "$@"; do
  case $argument in
    --lint) lint=yes ;;
    --tests) tests=yes ;;
    *) refuse "Expected --lint, --tests or nothing but received $argument" ;;
  esac
done

check_node
check_tools
[ "$tests" = no ] || want_test_data
install_node_modules
say_cuda
scripts/build.sh
