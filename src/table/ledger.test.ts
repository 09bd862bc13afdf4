import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { decodeBatch, encodeBatch } from './batch.ts';
import { Fold } from './fold.ts';
import { balance, bookFold, Ledger, ledgerTable } from './ledger.ts';
import { mergeBatch } from './merge.ts';
import { addRow, batchRows, SEED, sampleEvents, sampleRows, sampleTable } from './testing.ts';

function counts(batch: Parameters<typeof batchRows>[0]): Map<string, unknown> {
  return new Map([...batchRows(batch)].map(([key, [count]]) => [key, count]));
}

test('the identity holds where all is booked, and the difference says how much is not', () => {
  const ledger = new Ledger();
  ledger.seen('ring', 'netflow', 100);
  ledger.kept('ring', 'netflow', 60);
  ledger.folded('ring', 'netflow', 30);
  ledger.sampled('ring', 'netflow', 4);
  ledger.dropped('ring', 'netflow', 'full', 5);
  ledger.dropped('ring', 'netflow', 'torn', 1);
  assert.deepEqual(ledger.imbalance(), []);
  ledger.seen('wire', 'netflow', 3);
  ledger.kept('wire', 'netflow', 1);
  ledger.kept('wire', 'dns', 1);
  assert.deepEqual(ledger.imbalance(), [
    { stage: 'wire', table: 'netflow', seen: 3, accounted: 1, difference: 2 },
    { stage: 'wire', table: 'dns', seen: 0, accounted: 1, difference: -1 },
  ]);
  assert.equal(balance(ledger.rows()).length, 3);
});

test('deltas come once, travel as a table, and sum up to the rows', () => {
  const ledger = new Ledger();
  const total = new Fold(ledgerTable);
  for (const round of [1, 2, 3]) {
    ledger.seen('fold', 'netflow', 10 * round);
    ledger.dropped('fold', 'netflow', 'rows_max', round);
    if (round === 2) ledger.kept('fold', 'dns', 7);
    const batch = ledger.takeDeltas(round)!;
    assert.equal(ledger.takeDeltas(round), undefined);
    const decoded = decodeBatch(encodeBatch(batch), () => ledgerTable);
    assert.ok(decoded.ok);
    mergeBatch(total, decoded.batch);
  }
  const expected = new Map([
    ['["fold","netflow","seen",""]', 60],
    ['["fold","netflow","dropped","rows_max"]', 6],
    ['["fold","dns","kept",""]', 7],
  ]);
  assert.deepEqual(counts(total.close(9)), expected);
  const rows = ledger.rows().map((row) => {
    const { stage, table, outcome, reason, count } = row;
    return [JSON.stringify([stage, table, outcome, reason]), count] as const;
  });
  assert.deepEqual(new Map(rows), expected);
});

test('the ledger is bounded, and what finds no room is booked under <other>', () => {
  const ledger = new Ledger();
  for (let i = 0; i < 10_000; i += 1) {
    ledger.seen('intake', `table_${i}`, 1);
    ledger.dropped('intake', `table_${i}`, `reason_${i}`, 1);
  }
  assert.ok(ledger.rows().length < 5000);
  const sum = (outcome: string): number =>
    ledger.rows().reduce((a, row) => a + (row.outcome === outcome ? row.count : 0), 0);
  assert.equal(sum('seen'), 10_000);
  assert.equal(sum('dropped'), 10_000);
});

test('a count that is none is a mistake', () => {
  for (const count of [-1, 0.5, Number.NaN, 2 ** 53]) {
    assert.throws(() => new Ledger().seen('ring', 'netflow', count), /is no count of seen at ring/);
  }
  const ledger = new Ledger();
  ledger.seen('ring', 'netflow', 0);
  assert.deepEqual(ledger.rows(), []);
});

test(`a fold's books balance after each interval, with overflow and drops (seed ${SEED})`, () => {
  const property = fc.property(
    fc.array(sampleRows, { maxLength: 3 }),
    fc.nat(20),
    (rounds, max) => {
      const ledger = new Ledger();
      for (const def of [sampleTable, sampleEvents]) {
        const fold = new Fold(def, { rows_max: max + 1 });
        let booked = fold.counts;
        for (const rows of rounds) {
          for (const row of rows) addRow(fold, row);
          fold.close(1);
          booked = bookFold(ledger, fold, booked);
          assert.deepEqual(ledger.imbalance(), []);
        }
      }
      const adds = 2 * rounds.flat().length;
      assert.equal(
        balance(ledger.rows()).reduce((sum, { seen }) => sum + seen, 0),
        adds,
      );
    },
  );
  fc.assert(property, { seed: SEED });
});
