// The doctor on the real kernel: what it tries it takes off again, and beside a running collector it tries nothing.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, readdirSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { probes } from '../../probes/index.ts';
import { makePlace, type Place } from '../../test/e2e/sonde.ts';
import { NO_LIVE } from '../../test/live.ts';
import { findMount } from '../bpf/features.ts';
import { thisMachine } from './machine.ts';
import type { Report } from './present.ts';
import { clearAbandoned } from './trial.ts';

const SONDE = new URL('../../sonde', import.meta.url).pathname;
const BPFFS = findMount('bpf') ?? '/sys/fs/bpf';
const skip = NO_LIVE;
/** Sources that are on without a word in the configuration. */
const WANTED = new Set(
  probes.filter(({ enabled_default }) => enabled_default !== false).map(({ name }) => name),
);

type Variables = Readonly<Record<string, string>>;

function variables({ env }: Place): Variables {
  return { PATH: process.env.PATH ?? '', ...env };
}

async function doctor(env: Variables): Promise<Report> {
  const child = spawn(SONDE, ['doctor', '--json'], { env });
  const pieces: Buffer[] = [];
  for await (const piece of child.stdout) pieces.push(piece);
  // What reportText prints of the same schema; the fields used are asserted on.
  return JSON.parse(Buffer.concat(pieces).toString()) as Report;
}

function found(report: Report, id: string): readonly (readonly string[])[] {
  const own = report.checks.filter((check) => check.id === id);
  return own.map(({ subject, state, found: words }) => [subject, state, words]);
}

function trialFolders(): readonly string[] {
  return readdirSync(BPFFS).filter((name) => name.startsWith('sonde-doctor-'));
}

test('a trial loads every source and leaves nothing behind', { skip }, async (t) => {
  const before = trialFolders();
  const report = await doctor(variables(await makePlace(t)));
  const sources = found(report, 'source');
  assert.deepEqual(
    sources.map(([subject]) => subject),
    probes.map(({ name }) => name),
  );
  for (const [name, state, words] of sources) {
    const expected = WANTED.has(name) ? ['ok', 'warn'] : ['skip'];
    assert.ok(expected.includes(state), `${name}: ${state}, ${words}`);
  }
  assert.deepEqual(trialFolders(), before);
});

test('a source that is made to fail shows with its reason, the others go on', {
  skip,
}, async (t) => {
  const report = await doctor(variables(await makePlace(t, { SONDE_FAIL_SOURCE: 'udp' })));
  const [tcp, udp] = found(report, 'source');
  assert.notEqual(tcp?.[1], 'fail');
  assert.equal(udp?.[1], 'fail');
  assert.match(udp?.[2] ?? '', /^Failed to load udp programs: .*made to fail by fail_sources/);
});

test('what a killed doctor left is cleared, what a living one has is not', { skip }, () => {
  const dead = join(BPFFS, 'sonde-doctor-4999999'); // above the largest pid
  const alive = join(BPFFS, `sonde-doctor-${process.pid}`);
  mkdirSync(join(dead, 'links_x'), { recursive: true });
  mkdirSync(alive);
  clearAbandoned(BPFFS, thisMachine());
  const left = trialFolders();
  rmdirSync(alive);
  assert.ok(!left.includes('sonde-doctor-4999999'));
  assert.ok(left.includes(`sonde-doctor-${process.pid}`));
});

test('beside a running collector its own report is shown and nothing is tried', {
  skip,
}, async (t) => {
  const place = await makePlace(t);
  const env = variables(place);
  const run = spawn(SONDE, ['run'], {
    env: { ...env, SONDE_FAIL_SOURCE: 'udp' },
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  try {
    await tableOf(run);
    const pinned = readdirSync(place.pin_path);
    // The fault is the running collector's: this doctor is not told to make one.
    const report = await reported(env);
    const [tcp, udp] = found(report, 'source');
    assert.match(tcp?.[2] ?? '', /^as the running collector says: connections by /);
    assert.match(udp?.[2] ?? '', /made to fail by fail_sources/);
    assert.deepEqual(readdirSync(place.pin_path), pinned);
    assert.match(found(report, 'pins')[0]?.[2] ?? '', /in use by a collector/);
    assert.match(found(report, 'reducer')[0]?.[2] ?? '', /^1 collector connected/);
    assert.match(found(report, 'ports')[0]?.[2] ?? '', /^sonde reducer \(pid \d+\)/);
    assert.match(found(report, 'program-runs')[0]?.[2] ?? '', /programs/);
  } finally {
    await stop(run); // before its folder goes
  }
});

/** The first report of a collector is stored with its first interval. */
async function reported(env: Variables): Promise<Report> {
  for (let turn = 0; turn < 20; turn += 1) {
    const report = await doctor(env);
    const wanted = found(report, 'source').filter(([name]) => WANTED.has(name));
    if (!wanted.some(([, state]) => state === 'skip')) return report;
  }
  assert.fail('the running collector did not report');
}

/** Resolves when the first table is printed: collector and reducer are up. */
async function tableOf(run: ChildProcess): Promise<void> {
  const ended = new Promise((_, reject) => run.once('exit', () => reject(new Error('it ended'))));
  const printed = new Promise((resolve) => run.stdout?.once('data', resolve));
  await Promise.race([printed, ended]);
  run.stdout?.resume();
}

async function stop(run: ChildProcess): Promise<void> {
  if (run.exitCode !== null) return;
  const gone = new Promise((resolve) => run.once('exit', resolve));
  run.kill('SIGTERM');
  await gone;
}
