#!/usr/bin/env bash
# `npm run test:cuda`: the CUDA backend on a machine that need not have a GPU. Exit code 1 when anything failed.
#   1. with nvcc: libfishermask_cuda.so for all targets, warnings as errors; what ptxas says of its kernels, held against
#      cuda/hot-kernels.txt
#   2. the same sources compiled for the host (cuda/emulation), and every test of test/cuda run on them; ops and networks
#      again with stand-ins for cuBLASLt and cuDNN;
#      and the command line on an emulated device against the CPU
#   3. with nvcc and without a driver: the real library is loaded, and says why there is no device; so does the addon
# Without nvcc only the second runs, and the last lines say so. The library is then put beside the addon, where it is
# looked for (build/Release/). With a driver: scripts/gpu-check.sh.
#   scripts/test-cuda.sh [PART-OF-A-TEST'S-NAME]
# FISHERMASK_CUDA_BUILD: the build folder; default build-cuda. FISHERMASK_CUDA_JOBS: test cases at a time; default nproc.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
only=${1:-}
build=${FISHERMASK_CUDA_BUILD:-build-cuda}
jobs=${FISHERMASK_CUDA_JOBS:-$(nproc)}
kCaseLimit=3600 # seconds; an emulated kernel that waits for itself is found by the emulation, a test's own loop is not
export FISHERMASK_DATA=${FISHERMASK_DATA:-$PWD/../shared/data}

# shellcheck source=scripts/cuda-cases.sh
. scripts/cuda-cases.sh

ran=()
skipped=()
failed=()
have() { command -v "$1" >/dev/null 2>&1; }
library=$build/cuda/libfishermask_cuda.so
emulated=$build/cuda/emulation/libfishermask_cuda_emulated.so
tests=$build/fishermask_cuda_tests

# step NAME COMMAND…: its output, its time, and whether it worked
step() {
  local name=$1 began=$SECONDS
  shift
  printf '\n== %s\n' "$name"
  if "$@"; then
    ran+=("$name ($((SECONDS - began)) s)")
  else
    failed+=("$name")
    return 1
  fi
}

configure() {
  local arguments=(-DFISHERMASK_CUDA="$([ "$nvcc" = yes ] && echo ON || echo OFF)" -DCMAKE_BUILD_TYPE=Release)
  have ccache && arguments+=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
  # A build folder that was copied or moved with its checkout names files of the old place.
  if [ -f "$build/CMakeCache.txt" ] && ! grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$(pwd -P)" "$build/CMakeCache.txt"; then
    rm -rf "$build"
  fi
  if [ ! -f "$build/CMakeCache.txt" ] && have ninja; then arguments+=(-G Ninja); fi
  cmake -S . -B "$build" "${arguments[@]}" >"$scratch/configure" || {
    cat "$scratch/configure"
    return 1
  }
}
make_target() { cmake --build "$build" --parallel "$(nproc)" --target "$@"; }

run_emulated() {
  local status=0
  export FISHERMASK_CUDA_LIBRARY=$PWD/$emulated
  run_cases "$tests" "$scratch/cases" "$jobs" "$kCaseLimit" ${only:+"-tc=*$only*"} || status=1
  skipped+=("${said_why[@]}")
  totals="$passed passed, $broken failed, $said skipped"
  return $status
}

# Whole networks through both libraries' calls. They compute when they are called and know nothing of the emulation's streams, so
# that no pass with them can be recorded.
run_with_stand_ins() {
  # A library that is not there is no error to the backend.
  [ -f "$build/libfake_cudnn.so" ] && [ -f "$build/libfake_cublaslt.so" ] || return 1
  FISHERMASK_CUDA_GRAPHS=off FISHERMASK_CUDA_LIBRARY=$PWD/$emulated FISHERMASK_CUBLASLT=$PWD/$build/libfake_cublaslt.so \
    FISHERMASK_CUDNN=$PWD/$build/libfake_cudnn.so timeout "$kCaseLimit" "$tests" --no-colors=true -tc="every op*,convolutions beyond*,engine: Fishers*,engine: training*"
}

# Whether the loader finds a driver.
has_driver() { ldconfig -p 2>/dev/null | grep -q 'libcuda\.so\.1'; }
run_absent() {
  FISHERMASK_CUDA_LIBRARY=$PWD/$library FISHERMASK_CUDA_ABSENT=1 "$tests" --no-colors=true -tc="without a driver*" |
    tee "$scratch/absent" || return 1
  # A filter that matches nothing succeeds too.
  grep -qE '^\[doctest\] test cases: +[1-9]' "$scratch/absent"
}
place_library() {
  [ -f build/Release/fishermask.node ] || return 1
  cp "$library" build/Release/libfishermask_cuda.so.new && mv build/Release/libfishermask_cuda.so.new build/Release/libfishermask_cuda.so
}
try_addon() { place_library && env -u FISHERMASK_CUDA_LIBRARY node test/cuda/tools/addon-check.mjs; }

nvcc=no
have nvcc && nvcc=yes
totals="0 passed, 0 failed, 0 skipped"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

step "machine, addon and TypeScript" scripts/setup.sh
if step "configure $build" configure; then
  if [ "$nvcc" = yes ]; then
    if step "libfishermask_cuda.so by nvcc for all targets" make_target fishermask_cuda; then
      step "registers, shared memory and spills" node cuda/ptxas-report.mjs "$build" "$build/ptxas-report.json"
    fi
  else
    skipped+=("NO .cu WAS COMPILED FOR A DEVICE: there is no nvcc on this machine")
  fi
  if step "tests and emulated library" make_target fishermask_cuda_tests fishermask_cuda_emulated; then
    step "test/cuda on the emulation" run_emulated
    if [ -z "$only" ]; then step "ops and networks with stand-ins for cuBLASLt and cuDNN" run_with_stand_ins; fi
    step "the command line on the emulation" env FISHERMASK_CUDA_LIBRARY="$PWD/$emulated" node test/cuda/tools/command-line-check.mjs
    if [ "$nvcc" = no ] || [ ! -f "$library" ]; then
      skipped+=("the real library without a driver: it was not built")
    elif has_driver; then
      skipped+=("the real library without a driver: this machine has one (scripts/gpu-check.sh runs the tests on the GPU)")
    else
      step "the real library without a driver" run_absent
      step "the addon with the library and without a driver" try_addon
    fi
  fi
  if step "benchmark program" make_target fishermask_cuda_bench; then
    step "benchmark program on the emulation" env FISHERMASK_CUDA_LIBRARY="$PWD/$emulated" \
      "$build/fishermask_cuda_bench" --smoke --json "$build/bench-smoke.json"
  fi
fi

echo
for line in "${ran[@]}"; do echo "ran: $line"; done
for line in "${skipped[@]}"; do echo "SKIPPED: $line"; done
for line in "${failed[@]}"; do echo "FAILED: $line"; done
echo "test:cuda on the emulation: $totals"
[ ${#failed[@]} -eq 0 ]
