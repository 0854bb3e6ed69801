#!/usr/bin/env bash
# `npm test`: sets the machine up, then runs the native tests and vitest. The last line is the sum of both:
#   N passed, N failed, N skipped
# Above it stands each skipped test with its reason. Exit code 1 when a test failed or none ran.
# FISHERMASK_DATA: models and data sets; default ../shared/data. A native test that lacks what it needs says
# MESSAGE("SKIPPED: reason") and returns; it is counted as skipped, not as passed.
set -euo pipefail
cd "$(dirname "$0")/.."
export FISHERMASK_DATA=${FISHERMASK_DATA:-$PWD/../shared/data}

# Before setup, whose build writes what is stale.
node scripts/gen.mjs --check
scripts/setup.sh --tests

results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
passed=0
failed=0
skipped=0
touch "$results/reasons"

# count WORD: the number before WORD in doctest's line "[doctest] test cases: 3 | 3 passed | 0 failed | 0 skipped"
count() { sed -n "s/^\[doctest\] test cases:.* \([0-9]\{1,\}\) $1.*/\1/p" "$results/native"; }

# Test cases with doctest's skip() decorator are listed only with --no-skip.
list_marked_skips() {
  build/fishermask_tests --no-colors=true --list-test-cases | sort >"$results/listed"
  build/fishermask_tests --no-colors=true --list-test-cases --no-skip=true | sort >"$results/all"
  comm -13 "$results/listed" "$results/all" | sed '/^\[doctest\]/d;/^=*$/d;s/^/native: /;s/$/: marked skip()/'
}

run_native() {
  local status=0 saying
  cmake --build build --target fishermask_tests
  build/fishermask_tests --no-colors=true 2>&1 | tee "$results/native" || status=$?
  if [ -z "$(count passed)" ]; then # it died before its summary
    echo "native: the test binary ended with exit code $status before its summary"
    failed=$((failed + 1))
    return
  fi
  grep -o 'SKIPPED: .*' "$results/native" | sed 's/^SKIPPED/native/' >>"$results/reasons" || true
  saying=$(wc -l <"$results/reasons")
  list_marked_skips >>"$results/reasons"
  passed=$((passed + $(count passed) - saying))
  skipped=$((skipped + $(count skipped) + saying))
  failed=$((failed + $(count failed)))
  # doctest exits with 1 for failures that belong to no test case, too.
  if [ "$status" -ne 0 ] && [ "$(count failed)" -eq 0 ]; then failed=$((failed + 1)); fi
}

# field NAME: of the totals that scripts/vitest-totals.mjs wrote; a list is printed one item a line
field() {
  node -p 'const v = JSON.parse(require("node:fs").readFileSync(process.argv[1], "utf8"))[process.argv[2]];
    Array.isArray(v) ? v.join("\n") : v' "$results/vitest.json" "$1"
}

run_vitest() {
  local status=0
  FISHERMASK_VITEST_TOTALS=$results/vitest.json \
    node_modules/.bin/vitest run --reporter=default --reporter=./scripts/vitest-totals.mjs || status=$?
  if [ ! -f "$results/vitest.json" ]; then
    echo "vitest: ended with exit code $status before its summary"
    failed=$((failed + 1))
    return
  fi
  passed=$((passed + $(field passed)))
  failed=$((failed + $(field failed)))
  skipped=$((skipped + $(field skipped)))
  field reasons | sed '/^$/d' >>"$results/reasons"
  if [ "$status" -ne 0 ] && [ "$(field failed)" -eq 0 ]; then failed=$((failed + 1)); fi
}

run_native
run_vitest

if [ -s "$results/reasons" ]; then
  echo
  echo "SKIPPED:"
  sed 's/^/  /' "$results/reasons"
fi
if [ $((passed + failed)) -eq 0 ]; then
  echo "no test ran"
  failed=1
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
