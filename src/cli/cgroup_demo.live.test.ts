// `sonde cgroup-demo` as a user runs it: what it counts, and that nothing of it is left, however it ends.

import assert from 'node:assert/strict';
import { type ChildProcess, type StdioOptions, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import test from 'node:test';
import { NO_LIVE } from '../../test/live.ts';
import { findMount } from '../bpf/features.ts';

const SONDE = join(import.meta.dirname, '../../sonde');
const has_bpftool = spawnSync('bpftool', ['version']).status === 0;
/** On 5.10 the bpftool of today prints the head of its table alone, whatever is attached. */
const shows_attached = has_bpftool && !release().startsWith('5.');

interface Run {
  readonly child: ChildProcess;
  readonly lines: string[];
  readonly cgroup: string;
  readonly program: string;
}

/** Runs until it has counted something. */
async function start(words: readonly string[]): Promise<Run> {
  const child = spawn(SONDE, ['cgroup-demo', '--every', '0.1', '--rate', '200', ...words], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const lines: string[] = [];
  const reader = createInterface({ input: child.stdout });
  await new Promise<void>((resolve) => {
    reader.on('line', (line) => {
      lines.push(line);
      if (/^cgroup sent [1-9]/.test(line)) resolve();
    });
    reader.on('close', resolve);
  });
  const cgroup = /^created the v2 cgroup (.*)$/m.exec(lines.join('\n'))?.[1] ?? '';
  const program = /^attached program (\d+) /m.exec(lines.join('\n'))?.[1] ?? '';
  return { child, lines, cgroup, program };
}

function attached(cgroup: string): string {
  return spawnSync('bpftool', ['cgroup', 'show', cgroup], { encoding: 'utf8' }).stdout;
}

function isLoaded(program: string): boolean {
  return spawnSync('bpftool', ['prog', 'show', 'id', program]).status === 0;
}

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  test(`the walk-through, ended by ${signal}`, { skip: NO_LIVE }, async (t) => {
    const { child, lines, cgroup, program } = await start([]);
    t.after(() => child.kill('SIGKILL'));
    const members = readFileSync(join(cgroup, 'cgroup.procs'), 'utf8');
    assert.equal(members, `${child.pid}\n`, 'it is the one process in its cgroup');
    if (shows_attached) assert.match(attached(cgroup), /egress .*count_egress|cgroup_inet_egress/);
    child.kill(signal);
    const [status] = await once(child, 'close');
    assert.equal(status, 0);
    const last = lines.findLast((line) => line.startsWith('cgroup sent'));
    const found = /^cgroup sent (\d+) packets \(IPv4 (\d+), IPv6 (\d+)\); .* says (\d+)$/.exec(
      last ?? '',
    );
    const [sum, four, six, sent] = (found ?? []).slice(1).map(Number);
    assert.equal(sum, sent, last);
    assert.equal(Number(four) + Number(six), sum);
    assert.ok(Number(four) > 0);
    assert.deepEqual(lines.slice(-3), [
      'detached program count_egress',
      `left and removed the cgroup ${cgroup}`,
      `stopped: ${signal}`,
    ]);
    assert.equal(existsSync(cgroup), false);
    if (has_bpftool) assert.equal(isLoaded(program), false, 'the program is gone');
  });
}

test('the next one removes the cgroup of one that was killed', { skip: NO_LIVE }, async (t) => {
  const killed = await start([]);
  killed.child.kill('SIGKILL');
  await once(killed.child, 'close');
  assert.equal(existsSync(killed.cgroup), true);
  if (has_bpftool) assert.equal(isLoaded(killed.program), false, 'it went with its process');
  const next = await start(['--for', '0.2']);
  t.after(() => next.child.kill('SIGKILL'));
  if (next.child.exitCode === null) await once(next.child, 'close');
  assert.equal(existsSync(killed.cgroup), false);
  assert.match(next.lines.join('\n'), /stopped: the time is over/);
});

test('a reader that goes away ends it', { skip: NO_LIVE }, async (t) => {
  const { child, cgroup } = await start([]);
  t.after(() => child.kill('SIGKILL'));
  child.stdout?.destroy();
  const [status] = await once(child, 'close');
  assert.deepEqual([status, existsSync(cgroup)], [0, false]);
});

test('a full disk ends it, and is told', { skip: NO_LIVE }, () => {
  const words = ['cgroup-demo', '--for', '5'];
  const full = openSync('/dev/full', 'w');
  const stdio: StdioOptions = ['ignore', full, 'pipe'];
  const ended = spawnSync(SONDE, words, { stdio, encoding: 'utf8' });
  closeSync(full);
  const said = 'sonde: standard output: no space left on device\n';
  assert.deepEqual([ended.status, ended.stderr], [1, said]);
  const left = spawnSync('ls', [findMount('cgroup2') ?? '/'], { encoding: 'utf8' }).stdout;
  assert.doesNotMatch(left, new RegExp(`sonde-demo-${ended.pid}\\b`));
});

const AS_NOBODY = ['--reuid=65534', '--regid=65534', '--clear-groups'];

test('without rights it refuses', { skip: NO_LIVE }, (t) => {
  if (spawnSync('setpriv', [...AS_NOBODY, 'test', '-x', SONDE]).status !== 0) {
    t.skip('another user may not enter this folder');
    return;
  }
  const refused = spawnSync('setpriv', [...AS_NOBODY, SONDE, 'cgroup-demo'], { encoding: 'utf8' });
  assert.equal(refused.status, 2);
  assert.match(refused.stderr, /lacks CAP_BPF, CAP_NET_ADMIN.*\n.*\n.*sudo/);
});

test('a wrong word is refused, and leaves nothing', { skip: NO_LIVE }, () => {
  const wrong = spawnSync(SONDE, ['cgroup-demo', '--rate', '0'], { encoding: 'utf8' });
  assert.equal(wrong.status, 2);
  assert.match(wrong.stderr, /--rate '0': expected a number from 1/);
  const left = spawnSync('ls', [findMount('cgroup2') ?? '/'], { encoding: 'utf8' }).stdout;
  assert.doesNotMatch(left, /sonde-demo-/);
});
