#!/usr/bin/env bash
# `npm run lint`: every check that needs no test to run. Runs them all, then names those that failed.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
failed=()

# check NAME COMMAND…
check() {
  local name=$1
  shift
  if "$@"; then
    echo "lint: $name: ok"
  else
    echo "lint: $name: FAILED"
    failed+=("$name")
  fi
}

# Tracked and new files below the given paths, NUL-terminated; git's ignored files are left out.
files() { git ls-files -z --cached --others --exclude-standard -- "$@"; }

clang_format() {
  files 'binding/*.cc' 'binding/*.h' 'test/native/*.cc' 'test/native/*.h' 'test/gradcheck/*.cc' 'test/gradcheck/*.h' \
    'bench/native/*.cc' 'bench/native/*.h' 'test/cuda/*.cc' 'test/cuda/*.h' 'bench/cuda/*.cc' 'bench/cuda/*.h' \
    'cuda/*.cc' 'cuda/*.h' 'cuda/*.cu' 'cuda/*.cuh' |
    xargs -0 -r clang-format-19 --dry-run -Werror
}

# Files by name: what biome finds by itself includes its own configuration and data sets' texts.
biome_check() {
  files 'src/*.ts' 'test/*.ts' 'test/*.mjs' 'bench/*.ts' 'examples/*.ts' |
    xargs -0 node_modules/.bin/biome check --diagnostic-level=warn --error-on-warnings
}

# Also writes the declarations, to see what is exported.
types() {
  local out=build/lint-types
  rm -rf "$out"
  node_modules/.bin/tsc -p tsconfig.json --emitDeclarationOnly --outDir "$out" || return
  # An inferred `any` passes biome and strict mode, and switches checking off for the caller. Comments start with " *".
  ! grep -rnE '([:<|&(,=]|=>)\s*any\b' --include='*.d.ts' "$out" | grep -vE '^[^:]*:[0-9]+:\s*(\*|/\*|//)'
}

# Neither registries nor anybody's folders: a clone must not depend on the place where it was made.
no_places() {
  local status=0
  if grep -n '"resolved"' package-lock.json; then
    echo "package-lock.json names a registry; .npmrc has omit-lockfile-registry-resolved"
    status=1
  fi
  # The pattern is in pieces, so that this line does not match itself.
  if files . | grep -zvE '^(package-lock\.json|examples/data/)' |
    xargs -0 grep -nIE "(^|[^A-Za-z0-9_.~-])/(w""ork|r""oot)/|registry\.npm""js|deb\.deb""ian\.org|pypi\.""org"; then
    echo "the files above name a machine's paths or a registry"
    status=1
  fi
  return $status
}

# The vector kernels of other machines' instruction sets cannot run here, but they can be compiled.
neon() {
  local compiler=aarch64-linux-gnu-g++-12 rooms="" file
  for file in core graph ops fisher; do rooms="$rooms -Ibuild/rooms/$file"; done
  for file in binding/fisher/contraction_tiles.cc binding/fisher/contraction_depthwise.cc; do
    # shellcheck disable=SC2086
    "$compiler" -std=c++20 -O2 -Wall -Wextra -Wconversion -Werror $rooms -idirafter /usr/include -S "$file" \
      -o build/neon.s || return
    grep -q fmla build/neon.s || return
  done
}

# Before setup, whose build writes what is stale.
check generated node scripts/gen.mjs --check
scripts/setup.sh --lint || exit
check biome biome_check
check types types
check imports node scripts/check-imports.mjs
check places no_places
check clang-format clang_format
check neon neon
check clang-tidy scripts/tidy.sh

if [ ${#failed[@]} -gt 0 ]; then
  echo "lint: FAILED: ${failed[*]}"
  exit 1
fi
echo "lint: ok"
