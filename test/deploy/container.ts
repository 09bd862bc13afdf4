// Builds the images of deploy/Containerfile and runs them: a reducer as an ordinary user, and a collector once privileged
// and once with capabilities alone, which must see what this machine does.
//   node test/deploy/container.ts [--keep]
//
// The base images are made here, by debootstrap, under the names that the Containerfile uses: nothing is pulled. They hold
// this machine's way to mirror and registries; images, containers and base stay in build/image and go at the end.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { createServer, get } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { makeRoot } from '../bare/roots.ts';
import { ROOT, textOf } from './files.ts';

const FOLDER = join(ROOT, 'build/image');
const STORE = ['--root', join(FOLDER, 'store'), '--runroot', join(FOLDER, 'run')];
const PINS = `/sys/fs/bpf/sonde-image-${process.pid}`;
const PATIENCE_MS = 120_000;

const VOLUMES = [
  ...['-v', '/sys/fs/bpf:/sys/fs/bpf', '-v', '/sys/kernel/btf:/sys/kernel/btf:ro'],
  ...['-v', '/sys/fs/cgroup:/hostfs/sys/fs/cgroup:ro'],
];
const CAPABILITIES = ['bpf', 'perfmon', 'net_admin', 'sys_ptrace', 'dac_read_search'];
const RIGHTS = {
  privileged: ['--privileged'],
  'capabilities alone': [
    ...['--cap-drop', 'all', '--security-opt', 'seccomp=unconfined'],
    ...CAPABILITIES.flatMap((name) => ['--cap-add', name]),
  ],
} as const;

class UsageError extends Error {}

function say(text: string): void {
  process.stderr.write(`image: ${text}\n`);
}

function has(command: string): boolean {
  return spawnSync(command, ['--version']).error === undefined;
}

/** What this machine lacks, with the cure; undefined if nothing. */
function obstacle(): string | undefined {
  if (process.getuid?.() !== 0) return 'Images are built and run by root: run it as root';
  const lacking = ['podman', 'debootstrap'].filter((name) => !has(name));
  if (!has('crun') && !has('runc')) lacking.push('crun');
  return lacking.length === 0 ? undefined : `Missing ${lacking.join(', ')}: install them with apt`;
}

interface Said {
  readonly status: number | null;
  readonly text: string;
}

function podman(words: readonly string[], shown = false): Said {
  const stdio = shown ? 'inherit' : 'pipe';
  const all = [...STORE, '--cgroup-manager', 'cgroupfs', ...words];
  const { status, stdout, stderr } = spawnSync('podman', all, { encoding: 'utf8', stdio });
  return { status, text: `${stdout ?? ''}${stderr ?? ''}` };
}

function must(words: readonly string[], shown = false): string {
  const { status, text } = podman(words, shown);
  assert.equal(status, 0, `podman ${words.join(' ')}: ${text}`);
  return text;
}

/** Not crun where control groups are mounted in both versions; not more of anything than this machine allows. */
function runWords(): readonly string[] {
  const limits = ['--ulimit', 'nofile=4096:4096', '--ulimit', 'nproc=30000:30000'];
  const words = ['run', '--network', 'host', ...limits];
  const causes: string[] = [];
  for (const runtime of ['crun', 'runc'].filter(has)) {
    const chosen = ['--runtime', runtime, ...words];
    const { status, text } = podman([...chosen, '--rm', 'debian:bookworm', 'true']);
    if (status === 0) return chosen;
    causes.push(`${runtime}: ${text.trim()}`);
  }
  throw new UsageError(`No container starts here\n${causes.join('\n')}`);
}

async function build(): Promise<void> {
  const suites = [...textOf('Containerfile').matchAll(/^FROM debian:(\w+)/gm)].map((one) => one[1]);
  for (const suite of new Set(suites)) {
    assert.ok(suite !== undefined);
    say(`the base image: ${suite} by debootstrap`);
    const archive = await makeRoot(FOLDER, suite, 'plain');
    for (const tag of [suite, `${suite}-slim`]) {
      must(['import', '-q', archive, `docker.io/library/debian:${tag}`]);
    }
  }
  for (const role of ['collector', 'reducer']) {
    say(`building the image of the ${role}`);
    const from = ['-f', join(ROOT, 'deploy/Containerfile'), '--target', role];
    // Without a container for each step: the build needs none, and works inside of containers as well.
    const how = ['--isolation', 'chroot', '--pull=never', '--layers'];
    must(['build', ...how, ...from, '-t', `sonde-${role}`, ROOT], true);
  }
}

/** Until `value` is there; the last word of `what` is told where it never is. */
async function until(value: () => boolean, what: () => string): Promise<void> {
  for (const end = Date.now() + PATIENCE_MS; !value(); await delay(500)) {
    assert.ok(Date.now() < end, what());
  }
}

function logOf(container: string): string {
  return podman(['logs', container]).text;
}

/** Ends by TERM as an orchestrator does; the status must be 0. */
function stop(container: string): void {
  must(['stop', '-t', '30', container]);
  const state = must(['inspect', container, '--format', '{{.State.ExitCode}}']);
  assert.equal(state.trim(), '0', logOf(container));
  must(['rm', container]);
}

async function freePorts(count: number): Promise<readonly number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, '127.0.0.1'));
  await Promise.all(servers.map((server) => new Promise((go) => server.once('listening', go))));
  const ports = servers.map((server) => (server.address() as AddressInfo).port); // all TCP
  for (const server of servers) server.close();
  return ports;
}

/** This process serves itself; the collector must tell of both ends under this process's own pid and file. */
async function traffic(port: number): Promise<() => void> {
  const server = createServer((_, response) => response.end('seen'));
  await new Promise<void>((go) => server.listen(port, '127.0.0.1', go));
  const asking = setInterval(() => {
    get({ host: '127.0.0.1', port, agent: false }, (response) => response.resume());
  }, 50);
  return () => {
    clearInterval(asking);
    server.closeAllConnections();
    server.close();
  };
}

async function collect(run: readonly string[], rights: readonly string[], intake: number) {
  const [port = 0] = await freePorts(1);
  const env = {
    EBPF_NET_INTAKE_HOST: '127.0.0.1',
    EBPF_NET_INTAKE_PORT: String(intake),
    SONDE_COLLECTOR_PIN_PATH: PINS,
    SONDE_COLLECTOR_INTERVAL: '1s',
  };
  const variables = Object.entries(env).flatMap(([name, value]) => ['-e', `${name}=${value}`]);
  const words = ['-d', '--name', 'collector', '--pid', 'host', ...rights, ...VOLUMES, ...variables];
  const done = await traffic(port);
  try {
    must([...run, ...words, 'sonde-collector']);
    const sql = `SELECT count() FROM netflow WHERE pid = ${process.pid} AND tcp_established > 0
      AND process_executable_path = '${process.execPath}' AND ${port} IN (src_port, dst_port)
      GROUP BY direction`;
    const query = ['sonde', 'query', sql, '--reducer', `127.0.0.1:${intake}`, '--format', 'csv'];
    let answer = '';
    const seen = (): boolean => {
      answer = podman(['exec', 'reducer', ...query]).text;
      return answer.split('\n').filter((line) => /^"?[1-9]\d*"?$/.test(line)).length === 2;
    };
    await until(seen, () => `both ends were not seen: ${answer}\n${logOf('collector')}`);
  } finally {
    done();
  }
  stop('collector');
  assert.equal(existsSync(PINS), false, 'pins are left');
}

async function runImages(): Promise<void> {
  const run = runWords();
  const [intake = 0, metrics = 0] = await freePorts(2);
  const env = [`SONDE_REDUCER_LISTEN=127.0.0.1:${intake}`];
  env.push(`SONDE_REDUCER_METRICS=127.0.0.1:${metrics}`);
  const variables = env.flatMap((one) => ['-e', one]);
  must([...run, '-d', '--name', 'reducer', ...variables, 'sonde-reducer']);
  await until(
    () => logOf('reducer').includes('"listening"'),
    () => `the reducer does not listen:\n${logOf('reducer')}`,
  );
  for (const [name, rights] of Object.entries(RIGHTS)) {
    await collect(run, rights, intake);
    say(`${name}: the collector in its container saw both ends of our connections`);
  }
  stop('reducer');
}

async function clear(keep: boolean): Promise<void> {
  podman(['rm', '-f', '--all']);
  await rm(PINS, { recursive: true, force: true });
  if (keep) return;
  // podman mounts its store's folder onto itself.
  spawnSync('umount', ['-l', join(FOLDER, 'store/overlay')]);
  await rm(FOLDER, { recursive: true, force: true });
}

async function main(): Promise<void> {
  const lack = obstacle();
  if (lack !== undefined) throw new UsageError(lack);
  mkdirSync(FOLDER, { recursive: true });
  try {
    await build();
    await runImages();
  } finally {
    await clear(process.argv.includes('--keep'));
  }
}

try {
  await main();
  say('ok');
} catch (cause) {
  const error = cause instanceof Error ? cause : new Error(String(cause));
  const usage = error instanceof UsageError;
  say(usage ? error.message : (error.stack ?? error.message));
  process.exitCode = usage ? 2 : 1;
}
