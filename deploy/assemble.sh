#!/bin/sh
# Puts together what one role needs to run, from a checkout that is built: sh deploy/assemble.sh ROLE FOLDER
#   collector   `sonde kernel-collector` and `sonde start`: a few files, no store, no compiler, no sources
#   whole       every command, with the store
set -eu
umask 022
cd "$(dirname "$0")/.."
role=${1:?give a role: collector, whole}
to=${2:?give a folder}
[ -e build/sonde.bpf.o ] && [ -e build/sonde_bpf.node ] && [ -e build/js/start.mjs ] || {
  echo 'this checkout is not built yet: run npm run setup' >&2
  exit 2
}

put() {
  for path in "$@"; do
    mkdir -p "$to/$(dirname "$path")"
    # Into the parent: a folder of which something was put before is filled up, not nested.
    cp -RL "$path" "$to/$(dirname "$path")/"
  done
}

put sonde package.json scripts/env.sh src/config/rights.txt LICENSE NOTICE LICENSES
put build/sonde.bpf.o build/sonde_bpf.node build/js
case $role in
  collector)
    for node in node_modules/node-linux-*; do put "$node/bin/node" "$node/package.json"; done
    # The launcher looks for it to see that packages are installed; there is nothing else to install.
    : >"$to/node_modules/.package-lock.json"
    ;;
  whole) put src probes node_modules ;;
  *)
    echo "$role is no role: take collector or whole" >&2
    exit 2
    ;;
esac
# Nothing is built or fetched where this is.
: >"$to/build/SHIPPED"
