#!/usr/bin/env bash
# Builds the addon (cmake-js, into build/) and the TypeScript (tsc, into dist/). Incremental: seconds when nothing changed.
# FISHERMASK_BUILD_ARGS: more arguments for cmake-js, read when build/ is configured for the first time,
# e.g. --CDFISHERMASK_SANITIZE=address,undefined
set -euo pipefail
cd "$(dirname "$0")/.."

launcher=()
if command -v ccache >/dev/null 2>&1; then
  launcher=(--CDCMAKE_CXX_COMPILER_LAUNCHER=ccache)
fi
# A build folder that was copied or moved with its checkout names files of the old place.
if [ -f build/CMakeCache.txt ] && ! grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$(pwd -P)" build/CMakeCache.txt; then
  rm -rf build
fi
# cmake-js configures only where there is no cache; later runs go straight to the build tool. `build`, not `compile`,
# which answers any compile error by building everything again; not --silent, which hides the compiler's messages.
# shellcheck disable=SC2086
node_modules/.bin/cmake-js build --out build --log-level error "${launcher[@]}" ${FISHERMASK_BUILD_ARGS:-}
node scripts/gen.mjs
node_modules/.bin/tsc -p tsconfig.json
chmod +x dist/cli/main.js 2>/dev/null || true
