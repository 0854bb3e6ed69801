#!/usr/bin/env bash
# clang-tidy over the engine, one file per process. A file that passed is not looked at again until it, a header or
# .clang-tidy changes. Arguments: files, relative to the repository root; default: all of binding/.
set -euo pipefail
cd "$(dirname "$0")/.."
out=build/tidy
mkdir -p "$out/include"

# clang looks for omp.h in its own OpenMP library, which nothing else here needs; g++'s header serves, without the
# attribute arguments that clang does not know.
sed 's/__malloc__ ([^)]*)/__malloc__/' "$("${CXX:-g++}" -print-file-name=include/omp.h)" >"$out/include/omp.h.new"
mv "$out/include/omp.h.new" "$out/include/omp.h"

files=("$@")
[ ${#files[@]} -gt 0 ] || files=(binding/*/*.cc)
todo=()
for file in "${files[@]}"; do
  stamp=$out/${file//\//_}.ok
  if [ -f "$stamp" ] && [ -z "$(find "$file" .clang-tidy binding \( -name '*.h' -o -name '*.def' -o -path "$file" -o -name .clang-tidy \) -newer "$stamp" -print -quit)" ]; then
    continue
  fi
  todo+=("$file")
done
[ ${#todo[@]} -gt 0 ] || exit 0

# -Wno-…: libstdc++'s stable_sort calls what it deprecates; g++ says nothing about its own headers.
tidy_one() {
  clang-tidy-19 -p build --quiet --extra-arg=-isystem"$PWD/build/tidy/include" \
    --extra-arg=-Wno-deprecated-declarations --extra-arg=-Wno-unknown-warning-option "$1" 2>/dev/null &&
    touch "build/tidy/${1//\//_}.ok"
}
export -f tidy_one
printf '%s\0' "${todo[@]}" | xargs -0 -n 1 -P "$(nproc)" bash -c 'tidy_one "$0"'
