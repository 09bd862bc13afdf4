// Bare Debian roots by debootstrap: what a new machine has, git, and Debian's own Node and npm. They reach mirror and
// registries as this machine does; its configuration is copied into the root and nowhere else.

import { spawn } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { constants, homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { run } from '../kernels/command.ts';
import { debianMirror } from '../kernels/debian.ts';

/** Where a root has the project, as a repository to clone and as the clone. */
export const CLONE = '/srv/clone';
export const REPOSITORY = `${CLONE}.git`;

const PACKAGES = ['ca-certificates', 'git', 'nodejs', 'npm'];
const LOCAL_CERTIFICATES = '/usr/local/share/ca-certificates';

/**
 * A mount namespace with this machine's /proc, /sys and /dev in the root, and in it a root without bpffs and tracefs, as
 * a container's host may be. The pids are this machine's: eBPF sees no others.
 */
const ENTER = `set -eu
root=$1
shift
mount --rbind /dev "$root/dev"
mount --rbind /proc "$root/proc"
mount --rbind /sys "$root/sys"
for at in fs/bpf kernel/tracing; do
  if mountpoint -q "$root/sys/$at"; then umount -l "$root/sys/$at"; fi
done
exec chroot "$root" env -i "$@"`;

export interface Ended {
  /** As a shell tells it: 128 and the number of the signal that ended it. */
  readonly status: number;
  readonly text: string;
}

export interface Running {
  readonly ended: Promise<Ended>;
  /** As Ctrl-C would: every process of the terminal's group has it. */
  readonly interrupt: () => void;
  readonly kill: () => void;
}

export interface RunIn {
  /** Hears all that is written, as it comes. */
  readonly onText?: (text: string) => void;
  readonly network?: boolean;
}

/** Runs a shell script in a root, by root, with the environment of a new login. */
export function runIn(root: string, script: string, options: RunIn = {}): Running {
  const unshare = ['--mount', '--propagation', 'private'];
  if (options.network === false) unshare.push('--net');
  const words = [...unshare, 'sh', '-c', ENTER, 'sh', root, ...environment(), 'sh', '-c', script];
  // A session of its own: a signal for it is for all that the script has started.
  const child = spawn('unshare', words, { detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
  let text = '';
  const hear = (chunk: Buffer): void => {
    text += chunk.toString();
    options.onText?.(chunk.toString());
  };
  child.stdout.on('data', hear);
  child.stderr.on('data', hear);
  const signal = (name: NodeJS.Signals): void => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, name);
    } catch {
      // It has ended.
    }
  };
  const ended = new Promise<Ended>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, name) => {
      resolve({ status: code ?? 128 + constants.signals[name ?? 'SIGKILL'], text });
    });
  });
  return { ended, interrupt: () => signal('SIGINT'), kill: () => signal('SIGKILL') };
}

/** Of this machine's environment a root has what leads to the network, and nothing else. */
function environment(): readonly string[] {
  const own = ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', 'HOME=/root'];
  const leads = /^((https?|no)_proxy|NODE_EXTRA_CA_CERTS|SSL_CERT_FILE)$/i;
  const passed = Object.entries(process.env).filter(([name]) => leads.test(name));
  return [...own, 'TERM=dumb', ...passed.map(([name, value]) => `${name}=${value}`)];
}

/**
 * A root of Debian: `bare` as a new machine with git, Node and npm, `plain` without them, as an image of Debian is. Made
 * once into an archive in `cache`, whose path is returned; given a folder, it is unpacked there.
 */
export async function makeRoot(
  cache: string,
  suite: string,
  kind: 'bare' | 'plain',
  root?: string,
): Promise<string> {
  const archive = join(cache, `${suite}-${kind}.tar`);
  if (!existsSync(archive)) await makeArchive(archive, suite, kind);
  if (root !== undefined) {
    await rm(root, { recursive: true, force: true });
    mkdirSync(root, { recursive: true });
    await run(['tar', '-C', root, '-xf', archive]);
  }
  return archive;
}

async function makeArchive(archive: string, suite: string, kind: 'bare' | 'plain'): Promise<void> {
  const root = `${archive}.root`;
  await rm(root, { recursive: true, force: true });
  mkdirSync(root, { recursive: true });
  const mirror = await debianMirror();
  await run(['debootstrap', '--variant=minbase', suite, root, mirror.archive]);
  await leadToNetwork(root, suite, mirror);
  if (kind === 'bare') {
    const packages = PACKAGES.join(' ');
    const script = `export DEBIAN_FRONTEND=noninteractive
      apt-get update -q && apt-get install -qy --no-install-recommends ${packages}`;
    const { status, text } = await runIn(root, script).ended;
    if (status !== 0) throw new Error(`Cannot make a root of ${suite}:\n${text.slice(-2000)}`);
  }
  await runIn(root, 'apt-get clean && rm -rf /var/lib/apt/lists/*').ended;
  await run(['tar', '-C', root, '-cf', `${archive}.new`, '.']);
  await run(['mv', `${archive}.new`, archive]);
  await rm(root, { recursive: true });
}

async function leadToNetwork(
  root: string,
  suite: string,
  mirror: { archive: string; security: string },
): Promise<void> {
  const put = (path: string, text: string): void => {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  };
  const lines = [
    `deb ${mirror.archive} ${suite} main`,
    `deb ${mirror.archive} ${suite}-updates main`,
    `deb ${mirror.security} ${suite}-security main`,
  ];
  put('etc/apt/sources.list', `${lines.join('\n')}\n`);
  const settings = (await run(['apt-config', 'dump', 'Acquire'])).stdout.toString().split('\n');
  const wanted = /^Acquire::(https?|Check-|Allow|Force)[^ ]* "[^"]+";$/;
  put('etc/apt/apt.conf.d/90host', `${settings.filter((line) => wanted.test(line)).join('\n')}\n`);
  // An installer writes these; debootstrap does not.
  put('etc/hosts', '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n');
  put('etc/resolv.conf', readFileSync('/etc/resolv.conf', 'utf8'));
  for (const path of ['/etc/apt/auth.conf', '/etc/apt/auth.conf.d', LOCAL_CERTIFICATES]) {
    if (existsSync(path)) cpSync(path, join(root, path), { recursive: true, dereference: true });
  }
  put('root/.npmrc', await npmSettings());
}

/** The user's own file, which may hold credentials, and what else this machine's npm needs for its registry. */
async function npmSettings(): Promise<string> {
  const own = join(homedir(), '.npmrc');
  const lines = existsSync(own) ? [readFileSync(own, 'utf8')] : [];
  for (const key of ['registry', 'cafile', 'proxy', 'https-proxy', 'noproxy']) {
    const value = (await run(['npm', 'config', 'get', key])).stdout.toString().trim();
    if (!['', 'null', 'undefined'].includes(value)) lines.push(`${key}=${value}`);
  }
  return `${lines.join('\n')}\n`;
}

/** What is committed of the project, as a repository in the root. */
export async function putRepository(project: string, root: string): Promise<void> {
  await run(['git', 'clone', '-q', '--bare', project, join(root, REPOSITORY)]);
}
