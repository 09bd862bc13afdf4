#!/bin/sh
# The checks that need no kernel: types, format and lint, the laws of STYLE.md. Exit 1 on the first that fails.
set -eu
cd "$(dirname "$0")/.."
root=$(pwd -P)
. "$root/scripts/env.sh"
find_node
[ -n "$node" ] || refuse "no Node $node_version here yet" "run: npm run setup"
PATH=$(dirname "$node"):$PATH
export PATH

echo 'check: types (tsc)'
./node_modules/.bin/tsc -p .
echo 'check: format and lint (biome)'
./node_modules/.bin/biome check --error-on-warnings .
if [ "${1-}" != --no-tidy ]; then
  echo 'check: laws (tidy)'
  "$node" --test --test-reporter=dot test/tidy.test.ts
fi
