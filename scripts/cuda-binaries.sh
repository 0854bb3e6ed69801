#!/usr/bin/env bash
# Packs what a bare machine with a GPU needs for scripts/gpu-check.sh, beside the tracked files: the tests and the benchmark
# program without symbols, the CUDA backend, and the libraries that they load beside libc and libstdc++, in one archive.
#   scripts/cuda-binaries.sh OUT      makes OUT/binaries.tar.gz
# Builds what is stale (nvcc is needed). At most 48 MiB, so that it and the tracked files are less than 64; prints the size and
# what the machine must bring.
# FISHERMASK_CUDA_BUILD: the build folder; default build-cuda. FISHERMASK_CUDA_EMULATED=1: packs the emulated library in the
# real one's place, for a dry run of gpu-check.sh without nvcc and GPU.
set -euo pipefail
cd "$(dirname "$0")/.."
kMostBytes=$((48 << 20))
out=${1:?usage: scripts/cuda-binaries.sh OUT}
build=${FISHERMASK_CUDA_BUILD:-build-cuda}
emulated=${FISHERMASK_CUDA_EMULATED:-}

have() { command -v "$1" >/dev/null 2>&1; }
if [ -z "$emulated" ] && ! have nvcc; then
  echo "cuda-binaries: Expected nvcc on the PATH but found none: the CUDA backend cannot be built" >&2
  exit 2
fi

library=fishermask_cuda
built=$build/cuda/libfishermask_cuda.so
if [ -n "$emulated" ]; then
  library=fishermask_cuda_emulated
  built=$build/cuda/emulation/libfishermask_cuda_emulated.so
fi
programs=(fishermask_cuda_tests fishermask_cuda_bench)
arguments=(-DFISHERMASK_CUDA="$([ -n "$emulated" ] && echo AUTO || echo ON)")
if [ ! -f "$build/CMakeCache.txt" ]; then
  have ccache && arguments+=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
  have ninja && arguments+=(-G Ninja)
fi
cmake -S . -B "$build" "${arguments[@]}" >/dev/null
cmake --build "$build" --parallel "$(nproc)" --target "${programs[@]}" "$library"

rm -rf "$out"
mkdir -p "$out"
place=$out
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
for program in "${programs[@]}"; do strip -o "$out/$program" "$build/$program"; done
strip -o "$out/libfishermask_cuda.so" "$built"

# libraries FILE…: the paths of what the loader finds for them
libraries() { ldd "$@" | sed -n 's/.* => \(\/[^ ]*\) .*/\1/p' | sort -u; }
# Of the system: those that every machine has, and must have in its own version.
kSystem='^(libc|libm|libdl|libpthread|librt|libstdc\+\+|libgcc_s|ld-linux.*)\.so'
while read -r path; do
  name=$(basename "$path")
  if [[ ! $name =~ $kSystem ]]; then cp -L "$path" "$out/$name"; fi
done < <(libraries "${programs[@]/#/$build/}" "$built")

# needs PREFIX: the newest symbol version of that kind that anything packed asks for
needs() { objdump -T "$out"/* 2>/dev/null | grep -o "$1_[0-9.]*" | sort -uV | tail -n 1; }
ls -l "$out" | awk 'NR > 1 {printf "%12d %s\n", $5, $9}'
tar -czf "$place/binaries.tar.gz" -C "$out" .
bytes=$(wc -c <"$place/binaries.tar.gz")
echo "needs of the machine: $(needs GLIBC), $(needs GLIBCXX)${emulated:+; EMULATED library}"
echo "$bytes bytes ($(((bytes + 1048575) / 1048576)) MiB) in $place/binaries.tar.gz"
if [ "$bytes" -gt "$kMostBytes" ]; then
  echo "cuda-binaries: Expected at most $kMostBytes bytes" >&2
  exit 1
fi
