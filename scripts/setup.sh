#!/bin/sh
# Brings a fresh clone to where sonde runs: Debian packages, the pinned Node, npm packages, the build, mounts.
# Says each step it takes in one line, takes none twice, and is silent and quick when all is there.
# `--run`: called for `npm start`; stop early where the rights to run are plainly missing.
set -eu
umask 022
cd "$(dirname "$0")/.."
root=$(pwd -P)
. "$root/scripts/env.sh"

log=$root/.sonde/setup.log

# Runs a command with its output in the log; on failure names the cause that the log shows, and stops.
step() {
  step_name=$1
  shift
  printf '\n== %s: %s\n' "$step_name" "$*" >>"$log"
  "$@" >>"$log" 2>&1 || failed "$step_name"
}

failed() {
  recent=$(awk '/^== /{ text = "" } { text = text $0 "\n" } END { printf "%s", text }' "$log" | tail -n 80)
  tell() { refuse "$1 failed: $2" "$3" "the whole story is in .sonde/setup.log"; }
  case $recent in
    *ENOSPC* | *"No space left"* | *"not enough free"* | *"enough free space"*)
      tell "$1" 'the disk is full' 'free about 2 GB (see: df -h .), then run the same command again' ;;
    *EACCES* | *EROFS* | *"Permission denied"* | *"Read-only file system"*)
      tell "$1" 'this folder may not be written' "look at: ls -ld $root $root/node_modules" ;;
    *ENOTFOUND* | *EAI_AGAIN* | *ECONNREFUSED* | *ETIMEDOUT* | *ECONNRESET* | *ENETUNREACH* | \
      *EIDLETIMEOUT* | *"Could not resolve"* | *"Failed to fetch"* | *"Could not connect"* | \
      *"Unable to connect"*)
      tell "$1" 'the package registry cannot be reached' \
        'check the network and the proxy (npm config get registry; apt-config dump Acquire)' ;;
    *"Could not get lock"*)
      tell "$1" 'another program is installing packages' 'wait for its end, then run the same command again' ;;
    *"Unable to locate package"* | *"has no installation candidate"*)
      tell "$1" "apt's sources do not offer them" \
        "add Debian's main archive to apt's sources (see: apt-cache policy), then run the same command again" ;;
    *EINTEGRITY*)
      tell "$1" 'a package is not the one that package-lock.json pins' 'run: npm cache clean --force' ;;
  esac
  errors=$(printf '%s\n' "$recent" | grep -E '^(npm (error|ERR!)|E:|error:|mount:)' || true)
  printf '%s\n' "${errors:-$recent}" | grep -v '^$' | head -n 8 | sed 's/^/  | /' >&2
  refuse "$1 failed" 'the whole story is in .sonde/setup.log'
}

check_platform() {
  [ "$(uname -s)" = Linux ] || return 0
  [ -n "$(node_package)" ] ||
    refuse "no runtime for this processor: $(uname -m)" 'sonde runs on x86_64 and aarch64'
  # getconf knows this name under glibc alone.
  getconf GNU_LIBC_VERSION >/dev/null 2>&1 ||
    refuse 'this system has no glibc (musl?)' \
      'the pinned Node and the store need glibc: use Debian, Ubuntu, Fedora …'
}

# Without root and without a Node that could carry file capabilities, `npm start` has nowhere to go.
check_rights() {
  find_node
  if [ "$(id -u)" -ne 0 ] && [ -z "$node" ] && [ "$(uname -s)" = Linux ]; then
    cat "$root/src/config/rights.txt" >&2
    refuse 'sonde run needs rights that this user has not' \
      'run it as root:                   sudo npm start' \
      'or set up, then give the rights:  npm run setup, and see "Rights" in README.md'
  fi
}

# Each tool by what the build calls, so that a toolchain from elsewhere than Debian serves as well.
missing_packages() {
  command -v clang >/dev/null 2>&1 || echo clang
  command -v llvm-strip >/dev/null 2>&1 || echo llvm
  command -v cc >/dev/null 2>&1 || echo gcc
  if command -v pkg-config >/dev/null 2>&1; then
    pkg-config --exists 'libbpf >= 1.1' libelf zlib || echo libbpf-dev
  else
    echo pkg-config libbpf-dev
  fi
  [ -e /usr/include/stdio.h ] || echo libc6-dev
}

# A package ships build/: the node that runs it needs no compiler, so nothing is asked for.
debian_packages() {
  [ ! -e build/SHIPPED ] || return 0
  missing=$(missing_packages | tr '\n' ' ')
  missing=${missing% }
  [ -n "$missing" ] || return 0
  command -v apt-get >/dev/null 2>&1 ||
    refuse "missing here: $missing (Debian's names)" "install them with this system's package manager"
  [ "$(id -u)" -eq 0 ] ||
    refuse "missing Debian packages: $missing" "run: sudo apt-get install $missing"
  say "Debian packages: installing $missing"
  # shellcheck disable=SC2086 # a list of names, split on purpose
  if ! apt_install $missing >>"$log" 2>&1; then
    say 'Debian packages: refreshing the package lists first'
    step 'installing the Debian packages' apt_refresh_and_install $missing
  fi
}

# One step: `apt-get update` that reached no mirror warns, ends with 0, and it is the installation that then fails.
apt_refresh_and_install() {
  apt-get update -q || return
  apt_install "$@"
}

# A machine that has just started often upgrades itself: its lock is waited for.
apt_install() {
  DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends \
    -o DPkg::Lock::Timeout=120 "$@"
}

# One retry each, briefly: a machine without network hears so in seconds, not minutes.
npm_options='--ignore-scripts --no-save --no-audit --no-fund --no-update-notifier --no-progress
  --fetch-retries=1 --fetch-retry-mintimeout=1000 --fetch-retry-maxtimeout=5000'

pinned_node() {
  find_node
  if [ -n "$node" ] && [ "$("$node" --version 2>/dev/null)" = "v$node_version" ]; then return 0; fi
  if [ "$(uname -s)" != Linux ]; then
    [ -n "$node" ] || refuse 'Node 24 or later is needed on this system' 'install it, then run this again'
    return 0
  fi
  command -v npm >/dev/null 2>&1 || refuse 'npm is missing' 'run: sudo apt-get install npm'
  package=$(node_package)
  say "Node: fetching $node_version from the npm registry"
  mkdir -p .sonde/node
  # shellcheck disable=SC2086
  step 'fetching Node' npm install --prefix .sonde/node $npm_options "$package@$node_version"
  same_integrity "$package" ||
    refuse "$package $node_version is not the file that package-lock.json pins" \
      'do not run it; ask where your registry has it from'
  node=$root/.sonde/node/node_modules/$package/bin/node
  "$node" --version >>"$log" 2>&1 || failed 'starting the fetched Node'
}

# The bootstrap runs before the lock file could check anything, so its hash is held against the lock file here.
same_integrity() {
  pinned=$(integrity_of "$1" package-lock.json)
  fetched=$(integrity_of "$1" .sonde/node/node_modules/.package-lock.json)
  [ -n "$pinned" ] && [ "$pinned" = "$fetched" ]
}

integrity_of() {
  sed -n "\\#\"node_modules/$1\": {#,/}/s/.*\"integrity\": \"\\(.*\\)\".*/\\1/p" "$2"
}

# Not `npm ci`: it refuses a lock file that lacks optional packages of other platforms, and some registries do not
# carry those. `install --no-save` holds to the lock's versions and hashes all the same, and leaves the file alone.
npm_packages() {
  want=$(cksum <package-lock.json)
  have=$(cat .sonde/npm.sum 2>/dev/null || true)
  if [ -e node_modules/.package-lock.json ] && [ "$have" = "$want" ]; then return 0; fi
  say 'npm packages: installing what package-lock.json pins (about 1 GB, no install scripts)'
  rm -f .sonde/npm.sum
  # shellcheck disable=SC2086
  step 'installing the npm packages' run_npm install $npm_options
  printf '%s\n' "$want" >.sonde/npm.sum
}

# npm under the pinned Node: the packages' engine fields are judged against what will run them.
# Debian splits its npm over /usr/share/nodejs, which only Debian's own Node searches unasked.
run_npm() {
  npm_file=$(readlink -f "$(command -v npm)")
  case $npm_file in
    /usr/share/nodejs/*) NODE_PATH=/usr/share/nodejs ;;
    *) NODE_PATH= ;;
  esac
  NODE_PATH=$NODE_PATH PATH=$(dirname "$node"):$PATH "$node" "$npm_file" "$@"
}

build() {
  find_node
  [ -e scripts/build.ts ] || return 0
  [ "$(uname -s)" = Linux ] || return 0
  [ ! -e build/SHIPPED ] || return 0
  "$node" scripts/build.ts || refuse 'the build failed' 'the lines above say where'
}

# A mount that fails is no reason to stop: `sonde doctor` names what is missing and what it costs.
mounts() {
  [ "$(uname -s)" = Linux ] && [ "$(id -u)" -eq 0 ] || return 0
  mount_once bpf /sys/fs/bpf
  mount_once tracefs /sys/kernel/tracing
}

mount_once() {
  while read -r _ at type _; do
    if [ "$at" = "$2" ] && [ "$type" = "$1" ]; then return 0; fi
  done </proc/self/mounts
  say "mounting $1 on $2"
  mount -t "$1" "$1" "$2" >>"$log" 2>&1 ||
    say "could not mount $1 on $2; going on (sonde doctor tells more)"
}

check_platform
if [ "${1-}" = --run ]; then check_rights; fi
mkdir -p .sonde 2>/dev/null && { : >>"$log"; } 2>/dev/null ||
  refuse "cannot write in $root" \
    "the clone belongs to $(stat -c %U . 2>/dev/null || echo another user), or the disk is full or read-only"
# Two set-ups in one clone wait for each other; the lock goes with the process.
exec 9>.sonde/lock
if command -v flock >/dev/null 2>&1; then flock 9; fi
: >"$log"
debian_packages
pinned_node
npm_packages
build
mounts
