#!/bin/sh
# What `npm test` runs after set-up: the checks, then every test. Arguments narrow it to paths that contain one of them.
set -eu
cd "$(dirname "$0")/.."
sh scripts/check.sh --no-tidy
exec sh scripts/node.sh scripts/test.ts "$@"
