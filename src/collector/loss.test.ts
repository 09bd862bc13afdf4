import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Ledger, ledgerCounts } from '../table/ledger.ts';
import { bookLost, lossBatch } from './loss.ts';

test('what a lost batch held stands in the ledger, by measure', () => {
  const ledger = new Ledger();
  const counts = { bytes_read: 700, tcp_closed: 0 };
  bookLost(ledger, { table: 'netflow', rows: 3, counts }, 'spool_full');
  assert.deepEqual(
    ledger.rows().map(({ table, outcome, reason, count }) => [table, outcome, reason, count]),
    [
      ['netflow', 'seen', '', 3],
      ['netflow', 'dropped', 'spool_full', 3],
      ['netflow.bytes_read', 'seen', '', 700],
      ['netflow.bytes_read', 'dropped', 'spool_full', 700],
    ],
  );
  assert.deepEqual(ledger.imbalance(), []);
});

test('a lost batch of the ledger is said again, also to the heir of a spool', () => {
  const ledger = new Ledger();
  ledger.seen('fold', 'netflow', 11);
  ledger.dropped('fold', 'netflow', 'rows_max', 5);
  const lost = ledger.takeDeltas(1000);
  assert.ok(lost);
  const counts = ledgerCounts(lost);
  ledger.seen('fold', 'netflow', 2);
  for (const heir of [ledger, new Ledger()]) {
    bookLost(heir, { table: 'sonde_ledger', rows: lost.rows, counts }, 'spool_full');
    const next = heir.takeDeltas(2000);
    assert.ok(next);
    const said = ledgerCounts(next);
    assert.equal(said['fold\nnetflow\nseen\n'], heir === ledger ? 13 : 11);
    assert.equal(said['fold\nnetflow\ndropped\nrows_max'], 5);
    assert.equal(said['wire\nsonde_ledger\nfolded\n'], lost.rows);
  }
});

test('what a full spool drops is a ledger of its own, which is said again when it is dropped', () => {
  const rows = { table: 'netflow', rows: 3, counts: { bytes_read: 700 } };
  const first = lossBatch([rows], 'spool_full', 1000);
  assert.ok(first);
  const again = { table: 'sonde_ledger', rows: first.rows, counts: ledgerCounts(first) };
  const second = lossBatch([rows, again], 'spool_full', 2000);
  assert.ok(second);
  assert.deepEqual(ledgerCounts(second), {
    'wire\nnetflow\nseen\n': 6,
    'wire\nnetflow\ndropped\nspool_full': 6,
    'wire\nnetflow.bytes_read\nseen\n': 1400,
    'wire\nnetflow.bytes_read\ndropped\nspool_full': 1400,
    'wire\nsonde_ledger\nseen\n': first.rows,
    'wire\nsonde_ledger\nfolded\n': first.rows,
  });
  assert.equal(lossBatch([], 'spool_full', 3000), undefined);
});
