#!/usr/bin/env bash
# Builds the addon (cmake-js, into build/) and the TypeScript (tsc, into dist/). Incremental: seconds when nothing changed.
# FISHERMASK_BUILD_ARGS: more arguments for cmake-js, e.g. --CDFISHERMASK_SANITIZE=address,undefined
set -euo pipefail
cd "$(dirname "$0")/.."

launcher=()
if command -v ccache >/dev/null 2>&1; then
  launcher=(--CDCMAKE_CXX_COMPILER_LAUNCHER=ccache)
fi
# cmake-js configures only where there is no cache; later runs go straight to the build tool.
# shellcheck disable=SC2086
node_modules/.bin/cmake-js compile --out build --silent "${launcher[@]}" ${FISHERMASK_BUILD_ARGS:-}
node scripts/gen.mjs
node_modules/.bin/tsc -p tsconfig.json
chmod +x dist/cli/main.js 2>/dev/null || true
