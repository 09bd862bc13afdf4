import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Batch, StringColumn, ValueColumn } from './columns.ts';
import { defineTable } from './definition.ts';
import { Fold } from './fold.ts';
import { Histogram } from './histogram.ts';
import { ID_EMPTY, ID_OTHER, Interner, TEXT_LENGTH_MAX } from './interner.ts';
import { KeyIndex } from './keys.ts';
import {
  addRow,
  batchRows,
  foldRows,
  type NaiveCell,
  naiveFold,
  type SampleRow,
  SEED,
  sampleEvents,
  sampleRow,
  sampleRows,
  sampleTable,
} from './testing.ts';

const [BYTES, SECONDS, LATENCY] = [0, 1, 6];
const TIME = 1_700_000_000_000;

function values(batch: Batch, measure: number): Float64Array {
  return (batch.measures[measure] as ValueColumn).values;
}

/** Each measure from the list of all its observations, in the way its definition says. */
function expectedRow(cells: readonly NaiveCell[]): readonly unknown[] {
  return sampleTable.measures.map(({ fold, scale }, i) => {
    const seen = cells[i]!.values;
    const plain = seen.map(({ value }) => value);
    const sum = plain.reduce((a, b) => a + b, 0);
    if (fold === 'sum') return sum;
    if (fold === 'histogram') {
      const histogram = new Histogram(scale);
      for (const value of plain) histogram.add(value);
      const { buckets, counts } = histogram.lists();
      return { buckets: [...buckets], counts: [...counts], sum };
    }
    if (fold === 'mean') {
      const weight = seen.reduce((a, each) => a + each.weight, 0);
      return seen.reduce((a, each) => a + each.value * each.weight, 0) / weight;
    }
    if (plain.length === 0) return Number.NaN;
    if (fold === 'last') return plain.at(-1);
    return fold === 'min' ? Math.min(...plain) : Math.max(...plain);
  });
}

function expectedRows(rows: readonly SampleRow[]): Map<string, readonly unknown[]> {
  const keys = naiveFold(sampleTable, rows);
  return new Map([...keys].map(([key, cells]) => [key, expectedRow(cells)]));
}

test(`a fold is what a naive map of all observations says (seed ${SEED})`, () => {
  const property = fc.property(sampleRows, (rows) => {
    const batch = foldRows(sampleTable, rows).close(TIME);
    assert.deepEqual(batchRows(batch), expectedRows(rows));
    assert.equal(batch?.rows ?? 0, batchRows(batch).size);
  });
  fc.assert(property, { seed: SEED });
});

test(`a fold that was used before folds like a new one (seed ${SEED})`, () => {
  const reused = new Fold(sampleTable);
  const property = fc.property(sampleRows, (rows) => {
    for (const row of rows) addRow(reused, row);
    assert.deepEqual(reused.close(TIME), foldRows(sampleTable, rows).close(TIME));
    assert.equal(reused.rows, 0);
  });
  fc.assert(property, { seed: SEED });
});

test(`overflow keeps every sum and every observation (seed ${SEED})`, () => {
  const property = fc.property(sampleRows, fc.integer({ min: 1, max: 8 }), (rows, rows_max) => {
    const fold = foldRows(sampleTable, rows, { rows_max });
    const all = foldRows(sampleTable, rows);
    assert.ok(fold.rows <= rows_max + 1);
    assert.equal(fold.counts.overflowed > 0, all.rows > rows_max);
    const [batch, whole] = [fold.close(TIME), all.close(TIME)];
    for (const measure of [BYTES, SECONDS])
      assert.equal(total(batch, measure), total(whole, measure));
    assert.deepEqual(histogramTotals(batch), histogramTotals(whole));
    const { added, closed, folded, dropped } = fold.counts;
    assert.equal(added, rows.length);
    assert.equal(added, closed + folded + dropped);
  });
  fc.assert(property, { seed: SEED });
});

function total(batch: Batch | undefined, measure: number): number {
  return batch === undefined ? 0 : values(batch, measure).reduce((a, b) => a + b, 0);
}

function histogramTotals(batch: Batch | undefined): unknown {
  const buckets = new Map<number, number>();
  const column = batch?.measures[LATENCY];
  if (column === undefined || !('offsets' in column)) return { buckets, sum: 0 };
  for (const [i, bucket] of column.buckets.entries()) {
    buckets.set(bucket, (buckets.get(bucket) ?? 0) + column.counts[i]!);
  }
  return { buckets, sum: column.sums.reduce((a, b) => a + b, 0) };
}

test('the overflow row bears <other> and 0, and add says who went there', () => {
  const fold = new Fold(sampleTable, { rows_max: 2 });
  const row = (port: number): SampleRow => ({
    dimensions: ['a', 'client', 1, port, 2, -3, 4],
    measures: [1, 0, undefined, undefined, undefined, undefined, undefined, undefined],
  });
  const fits = [1, 2, 3, 1, 4, 2].map((port) => addRow(fold, row(port)));
  assert.deepEqual(fits, [true, true, false, true, false, true]);
  assert.equal(fold.counts.overflowed, 2);
  const rows = batchRows(fold.close(TIME));
  assert.equal(rows.get(JSON.stringify(['<other>', '<other>', 0, 0, 0, 0, 0]))?.[0], 2);
  assert.equal(rows.size, 3);
});

test('sums are exact up to 2^53 - 1, and held there with a count beyond', () => {
  const def = defineTable({ ...sampleTable, dimensions: [] });
  const fold = new Fold(def);
  const measures = new Float64Array(8).fill(Number.NaN);
  measures[BYTES] = 2 ** 52;
  fold.add(new Float64Array(0), measures);
  measures[BYTES] = 2 ** 52 - 1;
  fold.add(new Float64Array(0), measures);
  assert.equal(fold.counts.saturated, 0);
  measures[BYTES] = 1;
  fold.add(new Float64Array(0), measures);
  measures[BYTES] = 2 ** 60;
  fold.add(new Float64Array(0), measures);
  assert.equal(fold.counts.saturated, 2, 'the sum once, the value once');
  assert.equal(values(fold.close(TIME)!, BYTES)[0], 2 ** 53 - 1);
});

test('what a measure cannot hold is left out and counted', () => {
  const fold = new Fold(defineTable({ ...sampleTable, dimensions: [] }));
  for (const bad of [-1, Number.NEGATIVE_INFINITY]) {
    const measures = new Float64Array(8).fill(bad);
    measures[SECONDS] = 1;
    measures[4] = 7;
    fold.add(new Float64Array(0), measures);
  }
  // bytes, least, most, latency, size of each row; rtt has no weight.
  assert.equal(fold.counts.invalid, 10);
  const [row] = batchRows(fold.close(TIME)).values();
  assert.deepEqual(row?.slice(0, 6), [0, 2, Number.NaN, Number.NaN, 7, Number.NaN]);
});

test('a dimension out of its range is a mistake of the decoder', () => {
  const good = [0, 0, 0, 0, 0, 0, 0];
  const bad: [number, number][] = [
    [0, 99],
    [2, 256],
    [3, -1],
    [4, 2 ** 32],
    [5, 2 ** 31],
    [6, 2 ** 53],
    [6, 0.5],
    [6, Number.NaN],
  ];
  for (const def of [sampleTable, sampleEvents]) {
    const fold = new Fold(def);
    for (const [at, value] of bad) {
      const dims = Float64Array.from(good.with(at, value));
      const name = sampleTable.dimensions[at]!.name;
      assert.throws(() => fold.add(dims, new Float64Array(8)), new RegExp(`column "${name}": `));
    }
    assert.equal(fold.rows, 0);
  }
});

test(`events stay as they are, up to the limit (seed ${SEED})`, () => {
  const some = fc.array(sampleRow, { minLength: 1, maxLength: 150 });
  const property = fc.property(some, fc.integer({ min: 1, max: 200 }), (rows, rows_max) => {
    const fold = new Fold(sampleEvents, { rows_max });
    const kept = rows.filter((row, i) => addRow(fold, row, i));
    assert.equal(kept.length, Math.min(rows.length, rows_max));
    assert.equal(fold.counts.dropped, rows.length - kept.length);
    const batch = fold.close(TIME)!;
    assert.deepEqual(
      [...batch.times_ms],
      kept.map((_, i) => (i === 0 ? TIME : i)),
    );
    assert.deepEqual(
      [...values(batch, BYTES)],
      kept.map(({ measures }) => measures[BYTES]),
    );
    const { ids, dictionary } = batch.dimensions[0] as StringColumn;
    assert.deepEqual(
      [...ids].map((id) => dictionary[id]),
      kept.map(({ dimensions }) => dimensions[0]),
    );
  });
  fc.assert(property, { seed: SEED });
});

test('a fold with nothing in it closes to nothing', () => {
  assert.equal(new Fold(sampleTable).close(TIME), undefined);
});

test('the interner is bounded, and renews itself only between intervals', () => {
  const interner = new Interner(4);
  assert.equal(interner.intern(''), ID_EMPTY);
  assert.equal(interner.intern('<other>'), ID_OTHER);
  const a = interner.intern('a');
  assert.equal(interner.intern('a'), a);
  interner.renew();
  assert.equal(interner.epoch, 1, 'more than half full');
  const b = interner.intern('b');
  interner.intern('c');
  assert.equal(interner.intern('d'), ID_OTHER);
  assert.equal(interner.refused, 1);
  assert.equal(interner.text(b), 'b');
  assert.throws(() => interner.text(4), /id 4/);
  const half = new Interner(100);
  const id = half.intern('x');
  half.renew();
  assert.equal(half.epoch, 0);
  assert.equal(half.intern('x'), id);
});

test('strings are cut at the limit and made Unicode', () => {
  const interner = new Interner(100);
  const cut = interner.intern('x'.repeat(TEXT_LENGTH_MAX + 1));
  assert.equal(interner.text(cut), 'x'.repeat(TEXT_LENGTH_MAX));
  assert.equal(interner.text(interner.intern('a\ud800b')), 'a\ufffdb');
  assert.equal(
    interner.text(interner.intern(`${'x'.repeat(TEXT_LENGTH_MAX - 1)}😀`)).at(-1),
    '\ufffd',
  );
  assert.equal(interner.mended, 3);
});

test('keys whose hashes collide stay apart', () => {
  const def = defineTable({
    ...sampleTable,
    dimensions: [
      { name: 'a', type: 'u64', help: 'Any' },
      { name: 'b', type: 'u32', help: 'Any' },
    ],
  });
  // Of 300,000 hashes of 32 bits some ten pairs are equal; with this seed it is the same pairs each time.
  const index = new KeyIndex(def, 1);
  const count = 300_000;
  const key = (i: number): Float64Array => Float64Array.of(i * 2 ** 20, 443);
  for (let i = 0; i < count; i += 1) {
    assert.equal(index.find(key(i)), -1);
    assert.equal(index.insert(key(i)), i);
  }
  for (let i = 0; i < count; i += 1) assert.equal(index.find(key(i)), i);
});
