// A disk that fills and is freed while traffic runs; a spool that overflows while the reducer is away. What is not in the
// store stands in the ledger.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, mkdirSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { NO_LIVE } from '../live.ts';
import { talk } from '../traffic/traffic.ts';
import {
  ask,
  type Cleanup,
  command,
  countLog,
  makePlace,
  type Place,
  type Row,
  readLog,
  startCollector,
  startReducer,
  startRun,
  until,
} from './sonde.ts';
import { exact, expected, Load, stored } from './truth.ts';

const LOAD = { connections: 200, request: 300, response: 2000 };
/** Written at a time until nothing more fits. */
const PIECES = [1 << 20, 1 << 12, 1];

function mountSmall(path: string, mib: number): string | undefined {
  mkdirSync(path, { recursive: true });
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${mib}m`, 'tmpfs', path], { stdio: 'pipe' });
    return undefined;
  } catch (error) {
    return `cannot mount a tmpfs: ${error}`;
  }
}

function fill(path: string): void {
  const fd = openSync(path, 'w');
  for (const bytes of PIECES) {
    const piece = Buffer.alloc(bytes, 1);
    try {
      for (;;) writeSync(fd, piece);
    } catch {
      // full, for pieces of this size
    }
  }
  closeSync(fd);
}

interface Ledger {
  readonly rows: readonly LedgerRow[];
  readonly lost: readonly LedgerRow[];
  readonly differences: readonly unknown[];
}

interface LedgerRow {
  readonly stage: string;
  readonly table: string;
  readonly outcome: string;
  readonly reason: string;
  readonly count: number | string;
}

async function ledgerOf(place: Place): Promise<Ledger> {
  const at = ['--reducer', `127.0.0.1:${place.port}`];
  const { stdout } = await command(place, ['ledger', '--json', ...at]);
  return JSON.parse(stdout.toString('utf8'));
}

/** Fills the disk under load, waits until sonde has noticed, and frees it. */
async function fillUnderLoad(t: Cleanup, place: Place, disk: string): Promise<Load> {
  const load = new Load(t, LOAD);
  await until(
    () => load.count > 3,
    () => 'the first talks',
  );
  const ballast = join(disk, 'ballast');
  fill(ballast);
  const noticed = /"msg":"the spool cannot be written; rows wait in memory"/g;
  await until(
    () => countLog(place, noticed) > 0,
    () => `the full disk in ${readLog(place)}`,
  );
  const before = load.count;
  await until(
    () => load.count > before + 5,
    () => 'talks while the disk is full',
  );
  rmSync(ballast);
  return load;
}

const DISKS = {
  'of the spool': { mib: 4, store_elsewhere: true },
  'of spool and store': { mib: 96, store_elsewhere: false },
};

for (const [which, { mib, store_elsewhere }] of Object.entries(DISKS)) {
  test(`the disk ${which} fills under load and is freed`, { skip: NO_LIVE }, async (t) => {
    const place = await makePlace(t);
    const disk = join(place.dir, 'data');
    const refused = mountSmall(disk, mib);
    if (refused !== undefined) return t.skip(refused);
    place.undo(() => execFileSync('umount', ['-l', disk]));
    const env = store_elsewhere ? { SONDE_REDUCER_STORE_PATH: join(place.dir, 'store') } : {};
    const run = await startRun(place, [], { env });
    const load = await fillUnderLoad(t, place, disk);
    const again = /"msg":"the spool can be written again"/g;
    await until(
      () => countLog(place, again) > 0,
      () => `the freed disk in ${readLog(place)}`,
    );
    await exact(place, await load.end());
    const { lost, differences } = await ledgerOf(place);
    assert.deepEqual({ lost, differences }, { lost: [], differences: [] });
    const { code, stderr } = await run.end();
    assert.equal(code, 0, stderr);
  });
}

test('a spool that overflows: what is lost stands in the ledger', { skip: NO_LIVE }, async (t) => {
  const place = await makePlace(t, {
    SONDE_COLLECTOR_SPOOL_BYTES_MAX: '1MiB',
    SONDE_COLLECTOR_INTERVAL: '',
  });
  const file = join(place.dir, 'sonde.yaml');
  writeFileSync(file, 'collector: { interval: 100ms }\n');
  const collector = await startCollector(place, { words: ['--config', file] });
  const load = new Load(t, LOAD);
  await until(
    () => load.count > 80,
    () => 'so much that it does not fit',
  );
  const talks = await load.end();
  // While the reducer takes what there is nothing new may come: a row that is dropped while it is on the wire may be stored
  // all the same.
  writeFileSync(file, 'collector: { interval: 1h }\n');
  collector.child.kill('SIGHUP');
  await collector.says(/"msg":"configuration read again"/, 1, () => readLog(place));
  await startReducer(place);
  await until(
    async () => (await ask(place, 'SELECT 1', []).catch(() => [])).length > 0,
    () => 'an answer',
  );
  const last = await talk(t, 'tcp', LOAD, LOAD);
  await exact(place, [last]);
  const opened = await stored(place, talks);
  const { kept, lost, there } = await rowsOf(place);
  t.diagnostic(`${lost} of ${kept} rows lost`);
  assert.equal(kept - lost, there);
  const ledger = await ledgerOf(place);
  const flows = ledger.lost.filter(({ table }) => table === 'netflow');
  assert.deepEqual(
    flows.map(({ stage, reason }) => ({ stage, reason })),
    [{ stage: 'wire', reason: 'spool_full' }],
  );
  const missing = established(expected(talks)) - established(opened);
  assert.ok(missing > 0, 'nothing was lost of what the test did');
  const said = count(ledger.lost, { table: 'netflow.tcp_established' });
  assert.ok(missing <= said, `${missing} connections are missing, the ledger says ${said}`);
  assert.deepEqual(ledger.differences, []);
  assert.equal((await collector.end()).code, 0);
});

/**
 * Rows of `netflow` that the collector put into its spool, those of them that were lost, and those that are in the store,
 * as of one moment: its ledger of one batch covers all groups up to that batch's own, whose last it is.
 */
async function rowsOf(place: Place): Promise<{ kept: number; lost: number; there: number }> {
  const ledger = "sonde_ledger WHERE collector_id NOT LIKE 'reducer%'";
  const sum = (what: string) =>
    `(SELECT toFloat64(sum(count)) FROM ${ledger} AND batch_seq <= last AND \`table\` = 'netflow' AND ${what})`;
  const sql = `WITH (SELECT max(batch_seq) FROM ${ledger}) AS last
    SELECT ${sum("stage = 'spool' AND outcome = 'kept'")} AS kept,
      ${sum("stage = 'wire' AND outcome = 'dropped'")} AS lost,
      (SELECT toFloat64(count()) FROM netflow WHERE batch_seq < last) AS there`;
  const [row] = await ask(place, sql);
  return { kept: Number(row?.kept), lost: Number(row?.lost), there: Number(row?.there) };
}

function count(rows: readonly LedgerRow[], match: Partial<LedgerRow> = {}): number {
  const wanted = Object.entries(match);
  return rows
    .filter((row) =>
      wanted.every(([name, value]) =>
        Object.entries(row).some(([n, v]) => n === name && v === value),
      ),
    )
    .reduce((sum, row) => sum + Number(row.count), 0);
}

function established(rows: readonly Row[]): number {
  return rows.reduce((sum, row) => sum + Number(row.tcp_established), 0);
}
