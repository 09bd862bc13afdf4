// A program with functions of known names and shares, sampled and named.

import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { after } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { gunzipSync } from 'node:zlib';
import { NO_LIVE } from '../../test/live.ts';
import { ProtoReader } from '../wire/protobuf.ts';

const SONDE = join(import.meta.dirname, '../../sonde');
const HERTZ = 199;
const folder = mkdtempSync(join(tmpdir(), 'sonde-profile-'));
after(() => rmSync(folder, { recursive: true }));

function build(): string {
  const program = join(folder, 'burn');
  const source = join(import.meta.dirname, 'testdata/burn.c');
  execFileSync('cc', ['-O0', '-fno-omit-frame-pointer', source, '-o', program]);
  return program;
}

interface Profile {
  readonly out: Buffer;
  readonly err: string;
  /** Processor time of the program, by its own clock. */
  readonly cpu_s: number;
  readonly pid: number;
}

/** Until the process has a counter of the kernel's open: it samples. */
async function samples(pid: number): Promise<void> {
  for (;;) {
    const links = readdirSync(`/proc/${pid}/fd`).map((fd) => {
      try {
        return readlinkSync(`/proc/${pid}/fd/${fd}`);
      } catch {
        return ''; // closed meanwhile
      }
    });
    if (links.some((target) => target.includes('perf_event'))) return;
    await delay(20);
  }
}

/** Samples a run of the program alone: two seconds of it at least. */
async function profile(words: readonly string[]): Promise<Profile> {
  const burn = spawn(build(), ['2'], { stdio: ['pipe', 'pipe', 'inherit'] });
  const pid = burn.pid!;
  const flags = ['--seconds', '60', '--frequency', String(HERTZ), '--pid', String(pid)];
  const sonde = spawn(SONDE, ['profile', ...flags, ...words]);
  const [out, err, time]: [Buffer[], Buffer[], Buffer[]] = [[], [], []];
  sonde.stdout.on('data', (piece) => out.push(piece));
  sonde.stderr.on('data', (piece) => err.push(piece));
  burn.stdout.on('data', (piece) => time.push(piece));
  const closed = once(sonde, 'close');
  await Promise.race([samples(sonde.pid!), closed]);
  burn.stdin.end('\n');
  await once(burn, 'exit');
  sonde.kill('SIGTERM'); // it prints what there is
  const [status] = await closed;
  assert.equal(status, 0, Buffer.concat(err).toString());
  const text = { out: Buffer.concat(out), err: Buffer.concat(err).toString() };
  return { ...text, cpu_s: Number(Buffer.concat(time)), pid };
}

test('folded stacks name the functions, by their share', { skip: NO_LIVE }, async () => {
  const { out, err, cpu_s } = await profile([]);
  const lines = out.toString().trimEnd().split('\n');
  const counted = lines.map((line) => {
    const at = line.lastIndexOf(' ');
    return { frames: line.slice(0, at).split(';'), count: Number(line.slice(at + 1)) };
  });
  const sum = (name: string) =>
    counted
      .filter(({ frames }) => frames.includes(name))
      .reduce((total, { count }) => total + count, 0);
  const all = sum('burn');
  assert.equal(
    all,
    counted.reduce((total, { count }) => total + count, 0),
    'one program alone',
  );
  assert.match(err, new RegExp(`^${all} samples in .* s on \\d+ processors\\n$`));
  // It began before the sampling did; no more samples than its processor time has ticks.
  assert.ok(all > 50 && all <= cpu_s * HERTZ * 1.1, `${all} samples of ${cpu_s} s`);
  assert.ok(sum('main') >= all * 0.9, `${sum('main')} of ${all} in main`);
  const ratio = sum('heavy') / sum('light');
  assert.ok(ratio > 2 && ratio < 4.5, `heavy is ${ratio} times light`);
  const deepest = counted.find(({ frames }) => frames.includes('heavy') && frames.includes('spin'));
  const { frames = [] } = deepest ?? {};
  const order = ['burn', 'main', 'heavy', 'spin'].map((name) => frames.indexOf(name));
  assert.deepEqual(
    order,
    order.toSorted((a, b) => a - b),
  );
  assert.ok(!order.includes(-1), frames.join(';'));
});

test('pprof has the same in its own form', { skip: NO_LIVE }, async () => {
  const output = join(folder, 'profile.pb.gz');
  const { out, pid } = await profile(['--format', 'pprof', '--output', output]);
  assert.equal(out.length, 0);
  const { strings, samples, period } = readPprof(gunzipSync(readFileSync(output)));
  assert.equal(strings[0], '');
  for (const text of ['samples', 'cpu', 'nanoseconds', 'main', 'heavy', 'light', 'spin', 'pid']) {
    assert.ok(strings.includes(text), text);
  }
  assert.equal(period, Math.round(1e9 / HERTZ));
  assert.ok(samples.length > 0);
  for (const { values, pid: whose } of samples) {
    assert.equal(whose, pid);
    assert.equal(values[1], values[0]! * period);
  }
});

interface Pprof {
  readonly strings: readonly string[];
  readonly samples: readonly { readonly values: readonly number[]; readonly pid: number }[];
  readonly period: number;
}

function readPprof(bytes: Uint8Array): Pprof {
  const strings: string[] = [];
  const samples: Pprof['samples'][number][] = [];
  let period = 0;
  const reader = new ProtoReader(bytes);
  while (reader.next()) {
    if (reader.field === 6) strings.push(reader.string());
    else if (reader.field === 2) samples.push(readSample(reader.bytes()));
    else if (reader.field === 12) period = reader.integer();
  }
  assert.ok(reader.ok);
  return { strings, samples, period };
}

function readSample(bytes: Uint8Array): Pprof['samples'][number] {
  const values: number[] = [];
  let pid = 0;
  const reader = new ProtoReader(bytes);
  while (reader.next()) {
    if (reader.field === 2) values.push(reader.integer());
    if (reader.field !== 3) continue;
    const label = new ProtoReader(reader.bytes());
    while (label.next()) if (label.field === 3) pid = label.integer();
  }
  return { values, pid };
}

test('wrong words and a user without rights are refused', { skip: NO_LIVE }, () => {
  for (const [words, message] of [
    [['--format', 'svg'], /--format 'svg': expected folded or pprof/],
    [['--seconds', '0'], /--seconds '0': expected 0\.1 to 3600/],
    [['--frequency', '1.5'], /--frequency '1\.5': expected 1 to 1000/],
  ] as const) {
    const { status, stderr } = spawnSync(SONDE, ['profile', ...words], { encoding: 'utf8' });
    assert.equal(status, 2);
    assert.match(stderr, message);
  }
  const nobody = ['--reuid=65534', '--regid=65534', '--clear-groups'];
  if (spawnSync('setpriv', [...nobody, 'test', '-x', SONDE]).status !== 0) return;
  const refused = spawnSync('setpriv', [...nobody, SONDE, 'profile'], { encoding: 'utf8' });
  assert.equal(refused.status, 2);
  assert.match(refused.stderr, /lacks CAP_BPF, CAP_PERFMON.*\n.*sudo/);
});
