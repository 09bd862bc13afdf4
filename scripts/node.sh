#!/bin/sh
# Runs the pinned Node with the given arguments: sh scripts/node.sh file.ts …
set -eu
root=$(cd "$(dirname "$0")/.." && pwd -P)
. "$root/scripts/env.sh"
find_node
[ -n "$node" ] || refuse "no Node $node_version here yet" "run: npm run setup"
exec "$node" "$@"
