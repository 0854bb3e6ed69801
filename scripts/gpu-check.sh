#!/usr/bin/env bash
# The CUDA backend on a machine with a GPU: tests, compute-sanitizer, benchmark with ceilings, PyTorch beside it. Needs bash
# and the binaries (scripts/cuda-binaries.sh makes them); no Node, no network. Fits ten minutes.
#   scripts/gpu-check.sh --out DIR [--binaries DIR] [--smoke] [--only STEP[,STEP]…]
#     --out       gets gpu-DEVICE.json (everything below in one file) and logs.tar.gz (what each step printed)
#     --binaries  the folder with binaries.tar.gz; default: the build folder (FISHERMASK_CUDA_BUILD, build-cuda)
#     --smoke     tiny sizes: a dry run, with FISHERMASK_CUDA_LIBRARY naming the emulated library
#     --only      of device, tests, memcheck, bench, compare
# Exit code 1 when a step failed, 2 when it could not begin. What was left out, and why, is in the JSON.
# Time limits, in seconds: FISHERMASK_LIMIT_TESTS, _MEMCHECK, _BENCH, _COMPARE, and FISHERMASK_LIMIT for all together.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2

usage() {
  echo "gpu-check: $*; usage: scripts/gpu-check.sh --out DIR [--binaries DIR] [--smoke] [--only STEPS]" >&2
  exit 2
}
out=""
binaries=""
smoke=no
only=device,tests,memcheck,bench,compare
while [ $# -gt 0 ]; do
  case $1 in
    --out | --binaries | --only)
      [ $# -ge 2 ] || usage "Expected a value for $1"
      case $1 in
        --out) out=$2 ;;
        --binaries) binaries=$2 ;;
        --only) only=device,$2 ;;
      esac
      shift 2
      ;;
    --smoke)
      smoke=yes
      shift
      ;;
    *) usage "Expected --out, --binaries, --smoke or --only but received $1" ;;
  esac
done
[ -n "$out" ] || usage "Expected --out"
mkdir -p "$out" || usage "Expected a folder that can be written for --out but received $out"

kLimit=${FISHERMASK_LIMIT:-585}
kTests=${FISHERMASK_LIMIT_TESTS:-130}
kMemcheck=${FISHERMASK_LIMIT_MEMCHECK:-45}
kBench=${FISHERMASK_LIMIT_BENCH:-215}
kCompare=${FISHERMASK_LIMIT_COMPARE:-190}
kJobs=4 # test cases at a time: each has a context of its own on the device
[ "$smoke" = no ] || kTests=${FISHERMASK_LIMIT_TESTS:-3600} kLimit=${FISHERMASK_LIMIT:-7200}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# shellcheck source=scripts/cuda-cases.sh
. scripts/cuda-cases.sh

build=${FISHERMASK_CUDA_BUILD:-build-cuda}
if [ -n "$binaries" ]; then
  if [ -f "$binaries/binaries.tar.gz" ]; then
    tar -xzf "$binaries/binaries.tar.gz" -C "$scratch" || usage "Expected an archive of binaries but could not unpack $binaries/binaries.tar.gz"
    binaries=$scratch
  fi
  tests=$binaries/fishermask_cuda_tests
  bench=$binaries/fishermask_cuda_bench
  library=$binaries/libfishermask_cuda.so
  # After what is set already: the driver's library is found as the machine has it.
  export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$(cd "$binaries" && pwd)
else
  tests=$build/fishermask_cuda_tests
  bench=$build/fishermask_cuda_bench
  library=$build/cuda/libfishermask_cuda.so
fi
for program in "$tests" "$bench"; do
  [ -f "$program" ] || usage "Expected the program $program (scripts/cuda-binaries.sh DIR makes it, --binaries DIR names it)"
  # Copies can lose the mark.
  [ -x "$program" ] || chmod +x "$program"
done
library=${FISHERMASK_CUDA_LIBRARY:-$library}
[ -f "$library" ] || usage "Expected the CUDA backend's library but found no file $library"
FISHERMASK_CUDA_LIBRARY=$(realpath "$library")
export FISHERMASK_CUDA_LIBRARY
tests=$(realpath "$tests")
bench=$(realpath "$bench")

have() { command -v "$1" >/dev/null 2>&1; }
wanted() { [[ ,$only, == *,$1,* ]]; }
left() { echo $((kLimit - SECONDS)); }

# text STRING: as a JSON string
text() {
  local s=$1
  s=${s//\\/\\\\}
  s=${s//\"/\\\"}
  s=$(printf '%s' "$s" | tr '\n\t' '  ' | tr -d '\000-\037')
  printf '"%s"' "$s"
}
# document FILE: the JSON document in it, or null where the step did not get that far
document() { if [ -s "$1" ]; then cat "$1"; else echo null; fi; }

steps=()
failed=0
# note STEP STATUS SECONDS [REASON]
note() {
  steps+=("{\"step\": $(text "$1"), \"status\": $(text "$2"), \"seconds\": $3, \"reason\": $(text "${4:-}")}")
  printf '%-10s %-8s %5s s  %s\n' "$1" "$2" "$3" "${4:-}"
  [ "$2" != failed ] || failed=1
}
# timed STEP LIMIT COMMAND…: its log in DIR/STEP.log
timed() {
  local name=$1 limit=$2 began=$SECONDS status=0
  shift 2
  [ "$limit" -le "$(left)" ] || limit=$(left)
  if [ "$limit" -lt 5 ]; then
    note "$name" skipped 0 "no time was left"
    return 1
  fi
  timeout --kill-after=10 "$limit" "$@" >"$out/$name.log" 2>&1 || status=$?
  took=$((SECONDS - began))
  case $status in
    0) note "$name" ran "$took" "$(grep -E '^\[doctest\] test cases|ERROR SUMMARY' "$out/$name.log" | tail -n 1)" ;;
    3) if [ "$name" = compare ]; then note "$name" skipped "$took" "$(tail -n 1 "$out/$name.log")"; else note "$name" failed "$took" "exit code 3"; fi ;;
    124 | 137) if [ "$name" = memcheck ] && ! grep -q 'Invalid\|ERROR SUMMARY: [1-9]' "$out/$name.log"; then
      note "$name" partial "$took" "no error until its limit of $limit s"
    else
      note "$name" failed "$took" "it ran past its limit of $limit s"
    fi ;;
    *) note "$name" failed "$took" "exit code $status: $(tail -n 1 "$out/$name.log")" ;;
  esac
  return "$status"
}

device=unknown
bench_arguments=(--graphs bench/graphs --json "$out/bench.json")
compare_arguments=(--json "$out/compare.json")
if [ "$smoke" = yes ]; then
  bench_arguments+=(--smoke)
  compare_arguments+=(--smoke)
fi

write_report() {
  local slug file joined
  slug=$(printf '%s' "$device" | tr '[:upper:]' '[:lower:]' | tr -cs 'a-z0-9' '-' | sed 's/^-*//;s/-*$//')
  file=$out/gpu-$slug.json
  joined=$(printf ',\n  %s' "${steps[@]}")
  {
    printf '{\n "schemaVersion": 1,\n "smoke": %s,\n' "$([ "$smoke" = yes ] && echo true || echo false)"
    printf ' "date": %s,\n' "$(text "$(date -u +%Y-%m-%dT%H:%M:%SZ)")"
    printf ' "host": {"kernel": %s, "processors": %s, "driver": %s},\n' "$(text "$(uname -sr)")" "$(nproc)" \
      "$(text "$(nvidia-smi --query-gpu=driver_version,clocks.max.sm,power.limit --format=csv,noheader 2>/dev/null | head -n 1)")"
    printf ' "commit": %s,\n' "$(text "$(git rev-parse HEAD 2>/dev/null)")"
    printf ' "steps": [%s\n ],\n' "${joined:1}"
    printf ' "device": %s,\n "bench": %s,\n "compare": %s\n}\n' \
      "$(document "$out/device.json")" "$(document "$out/bench.json")" "$(document "$out/compare.json")"
  } >"$file.new"
  mv "$file.new" "$file"
  echo "$file"
}

# use_bundled VARIABLE NAME: where the loader knows no library NAME, the one that a python3's packages bring
use_bundled() {
  local found
  if [ -n "${!1:-}" ] || ldconfig -p 2>/dev/null | grep -qF "$2" || ! have python3; then return; fi
  found=$(python3 -c 'import glob, sys
print(next((f for p in sys.path for f in glob.glob(p + "/nvidia/*/lib/" + sys.argv[1])), ""))' "$2" 2>/dev/null)
  if [ -n "$found" ]; then export "$1=$found"; fi
}
# An emulated device's memory is none that they could reach.
if [ "$smoke" = no ]; then
  use_bundled FISHERMASK_CUBLASLT libcublasLt.so.13
  use_bundled FISHERMASK_CUDNN libcudnn.so.9
fi

rm -f "$out"/{device,bench,compare}.json
# What cannot open a device can do nothing else.
if ! timeout 60 "$bench" --info >"$out/device.json" 2>"$out/device.log"; then
  note device failed "$SECONDS" "$(tail -n 1 "$out/device.log")"
  rm -f "$out/device.json"
  write_report
  exit 1
fi
device=$(sed -n 's/^ "name": "\(.*\)",$/\1/p' "$out/device.json")
note device ran "$SECONDS" "$device"

# within LIMIT SPARE: seconds that a step may plan with, so that it ends by itself before it is ended
within() {
  local most=$1
  [ "$most" -le "$(left)" ] || most=$(left)
  echo $((most > $2 + 10 ? most - $2 : 10))
}

# cases STEP FILTER…: the log has a line for each, and all that was printed.
cases() {
  local name=$1 began=$SECONDS status=ran
  shift
  run_cases "$tests" "$scratch/$name" "$kJobs" "$(within "$kTests" 0)" "$@" >"$out/$name.log" 2>&1 || status=failed
  for line in "${said_why[@]}"; do echo "SKIPPED: $line" >>"$out/$name.log"; done
  note "$name" "$status" $((SECONDS - began)) "$passed passed, $broken failed, $said skipped"
  grep '^FAILED' "$out/$name.log"
}
if wanted tests; then
  cases tests
  # Once more where the two libraries would have done the work: our own kernels.
  FISHERMASK_CUBLASLT=off FISHERMASK_CUDNN=off cases own-kernels '-tc=every op*,engine: Fishers*'
fi

if wanted memcheck; then
  sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda*/bin/compute-sanitizer 2>/dev/null | head -n 1)
  if [ -z "$sanitizer" ]; then
    note memcheck skipped 0 "compute-sanitizer is not on this machine"
  else
    # A subset: it is a hundred times slower. Tests that provoke errors of the driver are left out, they are what it reports.
    timed memcheck "$kMemcheck" "$sanitizer" --tool memcheck --error-exitcode 9 "$tests" --no-colors=true \
      "-tc=${FISHERMASK_MEMCHECK_CASES:-*against*}" "-tce=*memory*,*lost*"
  fi
fi

if wanted bench; then
  timed bench "$kBench" "$bench" "${bench_arguments[@]}" --time-limit "$(within "$kBench" 25)"
  cat "$out/bench.log"
fi

if wanted compare; then
  if ! have python3; then
    note compare skipped 0 "there is no python3"
  else
    [ ! -s "$out/bench.json" ] || compare_arguments+=(--ours "$out/bench.json")
    timed compare "$kCompare" python3 bench/cuda/compare.py "${compare_arguments[@]}" --time-limit "$(within "$kCompare" 40)"
    cat "$out/compare.log"
  fi
fi

echo
write_report
# Few files come back from some machines.
(cd "$out" && tar -czf logs.tar.gz -- *.log && rm -f -- *.log {device,bench,compare}.json)
if [ "$failed" -ne 0 ]; then echo "gpu-check: FAILED"; else echo "gpu-check: ok"; fi
exit "$failed"
