#!/bin/sh
# What `npm test` runs after set-up: the checks, then every test. Arguments narrow it to paths that contain one of them.
set -eu
cd "$(dirname "$0")/.."
root=$(pwd -P)

# Tests start programs that they put into the folder of temporary files; where it is mounted noexec ours takes its place.
can_start_from() {
  probe=$(mktemp "$1/sonde-probe.XXXXXX") || return 1
  printf '#!/bin/sh\n' >"$probe"
  chmod +x "$probe"
  result=0
  "$probe" 2>/dev/null || result=1
  rm -f "$probe"
  return "$result"
}
if ! can_start_from "${TMPDIR:-/tmp}"; then
  TMPDIR=$root/build/tmp
  mkdir -p "$TMPDIR"
  export TMPDIR
  echo "test: ${root##*/}/build/tmp holds temporary files: nothing can be started from /tmp" >&2
fi

sh scripts/check.sh --no-tidy
exec sh scripts/node.sh scripts/test.ts "$@"
