#!/usr/bin/env bash
# The native tests under AddressSanitizer and UndefinedBehaviorSanitizer, in build-asan/. Arguments go to the test binary.
# Leaks are not looked for: oneDNN and libgomp keep their caches and thread teams until the process ends.
set -euo pipefail
cd "$(dirname "$0")/.."

launcher=()
if command -v ccache >/dev/null 2>&1; then
  launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
fi
if [ -f build-asan/CMakeCache.txt ] && ! grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$(pwd -P)" build-asan/CMakeCache.txt; then
  rm -rf build-asan
fi
# -O1: the sanitizers' reports stay readable and the build takes half the time of -O3.
cmake -S . -B build-asan -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG=-O1 \
  -DFISHERMASK_SANITIZE=address,undefined "${launcher[@]}" >/dev/null
cmake --build build-asan --target fishermask_tests --parallel "$(nproc)"

export FISHERMASK_DATA=${FISHERMASK_DATA:-$PWD/../shared/data}
# A test asks for more memory than there is, and wants the null that it would get without ASan.
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:strict_string_checks=1:detect_stack_use_after_return=1
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
build-asan/fishermask_tests --no-colors=true "$@"
