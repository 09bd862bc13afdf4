// A spool that overflows and is killed at each step of it: what it held is there, or told of as lost; never neither, never both.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { Spool, type SpoolEntry, type SpoolInput, type SpoolOptions } from './spool.ts';
import type { Lost } from './spool_loss.ts';

const OPTIONS = { bytes_max: 65536, segment_bytes: 16384 };
const STEPS_MAX = 200;

function folder(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), 'spool-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

/** Rows that are lost, in an entry of its own; one that is lost itself is told of again. */
function notice(lost: readonly Lost[]): SpoolInput {
  const rows = lost.reduce((sum, one) => sum + (one.counts.lost ?? one.rows), 0);
  return { table: 'notice', payload: new Uint8Array(500), rows: 1, counts: { lost: rows } };
}

const options: SpoolOptions = { ...OPTIONS, notice };

/** Counts writes and removals from the 60th row on. At the step-th it kills itself: before it, or when half is written or all removed. */
const child_program = `
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
const [dir, step, amid] = process.argv.slice(1);
let steps = Number.NEGATIVE_INFINITY;
const die = () => process.kill(process.pid, 'SIGKILL');
const { writeSync, rmSync } = fs;
fs.writeSync = (fd, bytes, at, length, position) => {
  if (++steps !== Number(step)) return writeSync(fd, bytes, at, length, position);
  if (amid === 'amid') writeSync(fd, bytes, at, length >> 1, position);
  die();
};
fs.rmSync = (path, options) => {
  const last = ++steps === Number(step);
  if (!last || amid === 'amid') rmSync(path, options);
  if (last) die();
};
syncBuiltinESMExports();
const { Spool } = await import(${JSON.stringify(new URL('./spool.ts', import.meta.url).href)});
${notice.toString().replace(/: readonly Lost\[\]|: SpoolInput/g, '')}
const spool = Spool.open(dir, { ...${JSON.stringify(OPTIONS)}, notice });
const payload = new Uint8Array(3000);
for (let row = 1; row <= 72; row++) {
  if (row === 60) steps = 0;
  const ring = { ring_id: 'r', cursor: row };
  const result = spool.appendGroup([{ table: 'a', payload, rows: 1, counts: {} }], ring);
  if (!result.ok) throw new Error(result.reason);
}
`;

/** False: it came to its end before that step. */
async function isKilled(dir: string, step: number, where: 'before' | 'amid'): Promise<boolean> {
  const args = ['--input-type=module-typescript', '-e', child_program, dir, String(step), where];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  const [code, signal] = await once(child, 'exit');
  assert.ok(code === 0 || signal === 'SIGKILL', `the child ended with ${code ?? signal}`);
  return signal === 'SIGKILL';
}

function account(entries: Iterable<SpoolEntry>): { rows: number; lost: number } {
  const sum = { rows: 0, lost: 0 };
  for (const { table, rows, counts } of entries) {
    if (table === 'notice') sum.lost += counts.lost ?? 0;
    else sum.rows += rows;
  }
  return sum;
}

for (const where of ['before', 'amid'] as const) {
  test(`killed ${where} each write and removal while it overflows`, async (t) => {
    let killed = 0;
    for (let step = 1; step < STEPS_MAX; step++) {
      const dir = folder(t);
      if (!(await isKilled(dir, step, where))) break;
      killed += 1;
      for (const life of ['next', 'one after']) {
        const spool = Spool.open(dir, options);
        const { rows, lost } = account(spool.pending());
        const written = spool.last()?.ring?.cursor;
        const bytes = spool.bytes();
        spool.close();
        assert.ok(lost > 0, 'nothing was lost');
        assert.equal(rows + lost, written, `step ${step}, ${life}: ${rows} there, ${lost} lost`);
        assert.ok(bytes <= OPTIONS.bytes_max, `${bytes} bytes`);
      }
    }
    assert.ok(killed > 12, `${killed} steps`);
  });
}

test('notices that are dropped are told of again, and what was read before is not read on', (t) => {
  const spool = Spool.open(folder(t), options);
  t.after(() => spool.close());
  const payload = new Uint8Array(3000);
  const append = () => spool.append({ table: 'a', payload, rows: 1, counts: {} });
  append();
  const reader = spool.pending();
  assert.equal(reader.next().value?.seq, 1);
  for (let row = 2; row <= 500; row++) append();
  const { rows, lost } = account(spool.pending());
  assert.equal(rows + lost, 500);
  const next = reader.next().value?.seq ?? 0;
  assert.ok(next > spool.settled() && spool.settled() > 400, `${next} after ${spool.settled()}`);
  assert.ok(spool.bytes() <= OPTIONS.bytes_max);
});

test('on a log that cannot take the notice nothing is dropped', (t) => {
  const dir = folder(t);
  const spool = Spool.open(dir, options);
  const payload = new Uint8Array(3000);
  const append = () => spool.append({ table: 'a', payload, rows: 1, counts: {} });
  while (spool.stats.dropped_rows === 0) append();
  const before = account(spool.pending());
  spool.close();
  const broken = (): SpoolInput => {
    throw Object.assign(new Error('full'), { code: 'ENOSPC' });
  };
  const again = Spool.open(dir, { ...OPTIONS, notice: broken });
  t.after(() => again.close());
  const refused = again.append({ table: 'a', payload: new Uint8Array(30000), rows: 1, counts: {} });
  assert.equal(refused.ok ? '' : refused.reason, 'ENOSPC');
  assert.deepEqual(account(again.pending()), before);
});
