#!/usr/bin/env bash
# Sourced by test-cuda.sh and gpu-check.sh: the cases of fishermask_cuda_tests, one process each, so that they share nothing and
# a crash, or a device that was lost, costs one.
#   run_cases PROGRAM FOLDER JOBS LIMIT FILTER…     FILTER: doctest's own (-tc=…, -tce=…)
# FOLDER gets what each case printed. Sets passed, broken, said (skipped), and said_why, one line each; prints a line a case.
# Fails when a case failed or none was found. LIMIT: seconds for one case.

# case_process PROGRAM FOLDER LIMIT NUMBER FILTER…
case_process() {
  local program=$1 folder=$2 limit=$3 number=$4 began=$SECONDS status=0
  shift 4
  timeout --kill-after=10 "$limit" "$program" --no-colors=true "$@" --first="$number" --last="$number" \
    >"$folder/case-$number" 2>&1 || status=$?
  echo "$status $((SECONDS - began))" >"$folder/status-$number"
}

run_cases() {
  local program=$1 folder=$2 jobs=$3 limit=$4 count number status seconds name
  shift 4
  passed=0 broken=0 said=0 said_why=()
  mkdir -p "$folder"
  "$program" --no-colors=true --list-test-cases "$@" | sed '/^\[doctest\]/d;/^=*$/d' >"$folder/cases" || return 1
  count=$(wc -l <"$folder/cases")
  [ "$count" -gt 0 ] || {
    echo "no test case fits $*"
    return 1
  }
  export -f case_process
  # shellcheck disable=SC2016
  seq "$count" | xargs -P "$jobs" -I{} bash -c 'case_process "$1" "$2" "$3" {} "${@:4}"' - "$program" "$folder" "$limit" "$@"
  for number in $(seq "$count"); do
    name=$(sed -n "${number}p" "$folder/cases")
    read -r status seconds <"$folder/status-$number"
    # What a case prints for the reader: coverage, worst errors.
    sed '/^\[doctest\]/d;/^=*$/d' "$folder/case-$number"
    if [ "$status" -ne 0 ]; then
      broken=$((broken + 1))
      echo "FAILED ($status, $seconds s): $name"
    elif grep -q 'SKIPPED: ' "$folder/case-$number"; then
      said=$((said + 1))
      said_why+=("$name: $(grep -o 'SKIPPED: .*' "$folder/case-$number" | head -n 1 | cut -c 10-)")
    else
      passed=$((passed + 1))
      echo "ok ($seconds s): $name"
    fi
  done
  [ "$broken" -eq 0 ]
}
