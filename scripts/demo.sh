#!/usr/bin/env bash
# `npm run demo`: sets the machine up, then shows a network forgetting. Arguments go to `fishermask demo`.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd -P)
"$root/scripts/setup.sh"
exec node "$root/dist/cli/main.js" demo "$@"
