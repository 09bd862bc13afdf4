import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { Batch } from '../table/columns.ts';
import { Ledger, ledgerCounts, ledgerTable } from '../table/ledger.ts';
import { foldRows, type SampleRow, sampleEvents } from '../table/testing.ts';
import { FlightSender } from '../wire/client.ts';
import { Spool } from '../wire/spool.ts';
import { DirectDelivery, SpoolDelivery } from './delivery.ts';

const RING = { ring_id: 'r', cursor: 1 };

function folder(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), 'delivery-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

function sample(rows: number): Batch {
  const row: SampleRow = {
    dimensions: ['a', 'client', 1, 2, 3, 4, 5],
    measures: sampleEvents.measures.map(() => 1),
  };
  const batch = foldRows(sampleEvents, Array<SampleRow>(rows).fill(row)).close(1000);
  assert.equal(batch?.rows, rows);
  return batch;
}

/** Nobody listens there. */
function spoolDelivery(t: TestContext, ledger: Ledger): { spool: Spool; delivery: SpoolDelivery } {
  const spool = Spool.open(folder(t), { bytes_max: 1 << 20 });
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
