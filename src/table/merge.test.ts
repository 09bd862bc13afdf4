import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { decodeBatch, encodeBatch } from './batch.ts';
import { defineTable, type TableDefinition } from './definition.ts';
import { Fold } from './fold.ts';
import { mergeBatch } from './merge.ts';
import {
  addRow,
  batchRows,
  foldRows,
  type SampleRow,
  SEED,
  sampleEvents,
  sampleRows,
  sampleTable,
} from './testing.ts';

const TIME = 1_700_000_000_000;
const RTT = 5;

/** Cuts rows into pieces, folds each, sends it over the wire, and merges all. */
function mergePieces(def: TableDefinition, pieces: readonly (readonly SampleRow[])[]): Fold {
  const merged = new Fold(def);
  for (const piece of pieces) {
    const batch = foldRows(def, piece).close(TIME);
    if (batch === undefined) continue;
    const decoded = decodeBatch(encodeBatch(batch), () => def);
    assert.ok(decoded.ok);
    mergeBatch(merged, decoded.batch);
  }
  return merged;
}

/** A weighted mean rounds differently on another way: it is compared by itself. */
function split(rows: Map<string, readonly unknown[]>): { exact: unknown; means: number[] } {
  const exact = new Map([...rows].map(([key, cells]) => [key, cells.toSpliced(RTT, 1)]));
  return { exact, means: [...rows.values()].map((cells) => Number(cells[RTT])) };
}

/** Rows whose `rtt` is always observed: a mean carries the weight of all rows of its key. */
const measured = sampleRows.map((rows) =>
  rows.map(({ dimensions, measures }) => ({
    dimensions,
    measures: measures.with(RTT, measures[RTT] ?? 0),
  })),
);

test(`folding in pieces and merging is folding at once (seed ${SEED})`, () => {
  const property = fc.property(fc.array(measured, { maxLength: 5 }), (pieces) => {
    const merged = split(batchRows(mergePieces(sampleTable, pieces).close(TIME)));
    const whole = split(batchRows(foldRows(sampleTable, pieces.flat()).close(TIME)));
    assert.deepEqual(merged.exact, whole.exact);
    for (const [i, mean] of merged.means.entries()) {
      const expected = whole.means[i]!;
      if (Number.isNaN(expected)) assert.ok(Number.isNaN(mean));
      else assert.ok(Math.abs(mean - expected) <= 1e-9 * Math.abs(expected), `${mean} ${expected}`);
    }
  });
  fc.assert(property, { seed: SEED });
});

test(`the order of pieces changes no sum and no bucket (seed ${SEED})`, () => {
  const commutes = defineTable({
    ...sampleTable,
    measures: sampleTable.measures.filter(({ fold }) => fold !== 'last' && fold !== 'mean'),
  });
  const narrow = sampleRows.map((rows) =>
    rows.map(({ dimensions, measures }) => ({
      dimensions,
      measures: measures.filter((_, i) => i !== 4 && i !== RTT),
    })),
  );
  const property = fc.property(fc.array(narrow, { maxLength: 4 }), (pieces) => {
    const there = batchRows(mergePieces(commutes, pieces).close(TIME));
    const back = batchRows(mergePieces(commutes, [...pieces].reverse()).close(TIME));
    assert.deepEqual(there, back);
  });
  fc.assert(property, { seed: SEED });
});

test('merged events keep their own times', () => {
  const row: SampleRow = {
    dimensions: ['a', 'client', 1, 2, 3, 4, 5],
    measures: [1, 2, 3, 4, 5, 6, 7, 8],
  };
  const fold = new Fold(sampleEvents);
  addRow(fold, row, 11);
  addRow(fold, row, 12);
  const batch = fold.close(TIME)!;
  const merged = new Fold(sampleEvents);
  addRow(merged, row, 10);
  mergeBatch(merged, batch);
  const all = merged.close(TIME)!;
  assert.deepEqual([...all.times_ms], [10, 11, 12]);
  assert.deepEqual(batchRows(all), batchRows(batch));
});

test('a finer scale becomes ours; a coarser one, or another table, is a mistake', () => {
  const scaled = (scale: number): TableDefinition =>
    defineTable({
      ...sampleTable,
      dimensions: [],
      measures: [
        { name: 'x', type: 'u64', unit: 'ns', fold: 'histogram', scale, help: 'Distribution' },
      ],
    });
  const filled = (scale: number): Fold => {
    const fold = new Fold(scaled(scale));
    for (let i = 0; i < 100; i += 1) fold.add(new Float64Array(0), Float64Array.of(i * i));
    return fold;
  };
  const coarse = new Fold(scaled(1));
  mergeBatch(coarse, filled(4).close(TIME)!);
  assert.deepEqual(batchRows(coarse.close(TIME)), batchRows(filled(1).close(TIME)));
  assert.throws(() => mergeBatch(new Fold(scaled(4)), filled(1).close(TIME)!), /scale 1 into 4/);
  assert.throws(() => mergeBatch(new Fold(sampleTable), filled(1).close(TIME)!), /cannot merge/);
});
