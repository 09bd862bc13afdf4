import assert from 'node:assert/strict';
import { copyFileSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { Batch } from '../table/columns.ts';
import { Ledger, ledgerCounts, ledgerTable } from '../table/ledger.ts';
import { foldRows, type SampleRow, sampleEvents, sampleTable } from '../table/testing.ts';
import { FlightSender } from '../wire/client.ts';
import { Spool } from '../wire/spool.ts';
import { DirectDelivery, SpoolDelivery } from './delivery.ts';

const RING = { ring_id: 'r', cursor: 1 };

function folder(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), 'delivery-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

const ROW: SampleRow = {
  dimensions: ['a', 'client', 1, 2, 3, 4, 5],
  measures: sampleEvents.measures.map(() => 1),
};

function sample(rows: number): Batch {
  const batch = foldRows(sampleEvents, Array<SampleRow>(rows).fill(ROW)).close(1000);
  assert.equal(batch?.rows, rows);
  return batch;
}

/** Adds `bytes` to the one key. */
function part(bytes: number): Batch {
  const row = { ...ROW, measures: [bytes, ...ROW.measures.slice(1)] };
  return foldRows(sampleTable, [row]).close(1000)!;
}

/** Nobody listens there. */
function spoolDelivery(
  t: TestContext,
  ledger: Ledger,
  dir = folder(t),
): { spool: Spool; delivery: SpoolDelivery } {
  const spool = Spool.open(dir, { bytes_max: 16 << 20 });
  const address = { host: '127.0.0.1', port: 1 };
  const own = { collector_id: 'c', hostname: 'h', version: '0' };
  const delivery = new SpoolDelivery(
    spool,
    new FlightSender(spool, { ...address, ...own }),
    ledger,
  );
  t.after(() => delivery.close());
  return { spool, delivery };
}

test('the ledger that goes with rows says that they were kept', (t) => {
  const ledger = new Ledger();
  const { spool, delivery } = spoolDelivery(t, ledger);
  let safe = 0;
  for (const rows of [3, 5]) delivery.take([sample(rows)], RING, 1000, () => void safe++);
  assert.equal(safe, 2);
  const said = [...spool.pending()].map(({ table, counts, rows }) => ({ table, counts, rows }));
  const name = sampleEvents.name;
  assert.deepEqual(
    said.map(({ table }) => table),
    [name, ledgerTable.name, name, ledgerTable.name],
  );
  const kept = said.map(({ counts }) => counts[`spool\n${name}\nkept\n`]);
  assert.deepEqual(kept, [undefined, 3, undefined, 5]);
  assert.deepEqual(ledger.imbalance(), []);
});

test('so it is where the reader is in this process', () => {
  const given: Batch[] = [];
  const ledger = new Ledger();
  const delivery = new DirectDelivery((batch) => given.push(batch), ledger);
  delivery.take([sample(3)], RING, 1000, () => undefined);
  assert.equal(given.length, 2);
  assert.equal(ledgerCounts(given[1]!)[`outlet\n${sampleEvents.name}\nkept\n`], 3);
});

test('parts of an interval leave as one, with the ledger that says so', (t) => {
  const ledger = new Ledger();
  const { spool, delivery } = spoolDelivery(t, ledger);
  const safe: number[] = [];
  for (const cursor of [10, 20]) {
    delivery.keep([part(cursor)], { ring_id: 'r', cursor }, 1000, () => safe.push(cursor));
  }
  assert.deepEqual(safe, [10, 20]);
  assert.deepEqual([...spool.pending()], []);
  delivery.take([part(30)], { ring_id: 'r', cursor: 30 }, 1000, () => safe.push(30));
  assert.deepEqual(safe, [10, 20, 30]);
  const [rows, said, ...more] = [...spool.pending()];
  assert.deepEqual(more, []);
  assert.deepEqual([rows?.table, rows?.rows, rows?.counts.bytes], ['sample', 1, 60]);
  const spooled = (outcome: string) => said?.counts[`spool\nsample\n${outcome}\n`];
  assert.deepEqual(['seen', 'kept', 'folded'].map(spooled), [3, 1, 2]);
  assert.deepEqual(ledger.imbalance(), []);
  assert.equal(spool.leftOpen(), undefined);
});

test('a successor takes the parts of a killed one, once, and goes on behind them', (t) => {
  const [dir, first, second] = [folder(t), folder(t), folder(t)];
  const killed = spoolDelivery(t, new Ledger(), dir);
  killed.delivery.keep([part(7)], { ring_id: 'r', cursor: 70 }, 1000, () => undefined);
  for (const [from, to] of [
    [dir, first],
    [first, second],
  ] as const) {
    for (const name of readdirSync(from).filter((one) => one !== 'lock')) {
      copyFileSync(join(from, name), join(to, name));
    }
    const { spool, delivery } = spoolDelivery(t, new Ledger(), to);
    assert.equal(delivery.positionOf('r')?.cursor, 70);
    const found = [...spool.pending()].map(({ table, counts }) => [table, counts.bytes]);
    assert.deepEqual(found[0], ['sample', 7]);
    assert.equal(found.length, 2); // and the ledger
  }
});

test('many rows do not wait for the end of the interval', (t) => {
  const { spool, delivery } = spoolDelivery(t, new Ledger());
  delivery.keep([sample(900)], RING, 1000, () => undefined);
  assert.equal([...spool.pending()].length, 0);
  let safe = 0;
  for (let i = 0; i < 4; i += 1) delivery.keep([sample(900)], RING, 1000, () => void safe++);
  assert.equal(safe, 4);
  const rows = [...spool.pending()].filter(({ table }) => table === sampleEvents.name);
  assert.deepEqual(
    rows.map((one) => one.rows),
    [4500],
  );
});
