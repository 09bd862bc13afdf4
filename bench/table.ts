// What a row costs: nanoseconds per add, per histogram observation, milliseconds per encoded and decoded batch.
// `node bench/table.ts` prints it; every part is bounded in count.

import { decodeBatch, encodeBatch } from '../src/table/batch.ts';
import { BucketScale } from '../src/table/buckets.ts';
import type { Batch } from '../src/table/columns.ts';
import type { Dimension, Measure } from '../src/table/definition.ts';
import { defineTable } from '../src/table/definition.ts';
import { Fold } from '../src/table/fold.ts';
import { mergeBatch } from '../src/table/merge.ts';
import { type Figure, printFigures } from './figure.ts';

const ADDS = 1_000_000;
const ROWS = 100_000;
const ROUNDS = 5;

/** A table as wide as the widest probe: 20 dimensions, 15 measures. */
function wideTable(histograms: number) {
  const dimensions: Dimension[] = [];
  for (let i = 0; i < 20; i += 1) {
    const type = (['string', 'u16', 'u32', 'u64'] as const)[i % 4]!;
    dimensions.push({ name: `d${i}`, type, help: 'dimension' });
  }
  const measures: Measure[] = [];
  for (let i = 0; i < 15; i += 1) {
    const name = `m${i}`;
    const base = { name, type: 'u64', unit: '1', help: 'measure' } as const;
    if (i >= 15 - histograms) measures.push({ ...base, fold: 'histogram' });
    else if (i === 10) measures.push({ ...base, fold: 'mean', weight: 'm0' });
    else measures.push({ ...base, fold: (['sum', 'sum', 'max', 'last'] as const)[i % 4]! });
  }
  const head = { name: 'wide', help: 'As wide as the widest', kind: 'fold' } as const;
  return defineTable({ ...head, rows_max: 1 << 18, dimensions, measures });
}

/** Keys as rows of doubles, drawn before the clock starts. */
function fillKeys(fold: Fold, keys: number): readonly Float64Array[] {
  const { dimensions } = fold.definition;
  return Array.from({ length: keys }, (_, key) =>
    Float64Array.from(dimensions, ({ type }, i) => {
      if (type === 'string') return fold.intern(`text ${(key * (i + 1)) % 500}`);
      return type === 'u64' ? key * 2 ** 20 + i : (key * 7 + i) & 0xffff;
    }),
  );
}

function measureAdd(keys: number, histograms: number): number {
  const fold = new Fold(wideTable(histograms));
  const rows = fillKeys(fold, keys);
  const values = Float64Array.from({ length: 15 }, (_, i) => i * 1000 + 1);
  let best = Number.POSITIVE_INFINITY;
  for (let round = 0; round < ROUNDS; round += 1) {
    const start = process.hrtime.bigint();
    for (let i = 0; i < ADDS; i += 1) {
      values[14] = i & 0xffff;
      fold.add(rows[i % keys]!, values);
    }
    best = Math.min(best, Number(process.hrtime.bigint() - start) / ADDS);
  }
  return best;
}

function measureBucket(): number {
  const scale = new BucketScale(3);
  let best = Number.POSITIVE_INFINITY;
  let sum = 0;
  for (let round = 0; round < ROUNDS; round += 1) {
    const start = process.hrtime.bigint();
    for (let i = 1; i <= ADDS; i += 1) sum += scale.index(i);
    best = Math.min(best, Number(process.hrtime.bigint() - start) / ADDS);
  }
  // Used, so that the loop cannot be left out.
  return sum === 0 ? 0 : best;
}

/** Heap that `ADDS` adds to known keys leave behind, in MiB: near 0 if nothing is allocated. */
function measureHeap(): number {
  const fold = new Fold(wideTable(2));
  const rows = fillKeys(fold, 100);
  const values = new Float64Array(15).fill(5);
  for (let i = 0; i < ADDS; i += 1) fold.add(rows[i % 100]!, values);
  const before = process.memoryUsage().heapUsed;
  for (let i = 0; i < ADDS; i += 1) fold.add(rows[i % 100]!, values);
  return (process.memoryUsage().heapUsed - before) / 2 ** 20;
}

function bestMs(work: () => void): number {
  let best = Number.POSITIVE_INFINITY;
  for (let round = 0; round < ROUNDS; round += 1) {
    const start = process.hrtime.bigint();
    work();
    best = Math.min(best, Number(process.hrtime.bigint() - start) / 1e6);
  }
  return best;
}

function wideBatch(): Batch {
  const fold = new Fold(wideTable(2));
  const values = Float64Array.from({ length: 15 }, (_, i) => i * 1000 + 1);
  for (const dims of fillKeys(fold, ROWS)) fold.add(dims, values);
  const batch = fold.close(1_700_000_000_000);
  if (batch === undefined) throw new Error('the fold is empty after adds');
  return batch;
}

export function run(): readonly Figure[] {
  const batch = wideBatch();
  const bytes = encodeBatch(batch);
  const figures: Figure[] = [
    { name: 'fold add, 1,000 keys, no histogram', value: measureAdd(1000, 0), unit: 'ns' },
    { name: 'fold add, 1,000 keys, 2 histograms', value: measureAdd(1000, 2), unit: 'ns' },
    { name: 'fold add, 50,000 keys, 2 histograms', value: measureAdd(50_000, 2), unit: 'ns' },
    { name: 'bucket index', value: measureBucket(), unit: 'ns' },
    { name: 'heap left by 1,000,000 adds', value: measureHeap(), unit: 'MiB' },
    { name: 'encode 100,000 rows', value: bestMs(() => encodeBatch(batch)), unit: 'ms' },
    { name: 'decode 100,000 rows', value: bestMs(() => decodeBatch(bytes)), unit: 'ms' },
    {
      name: 'merge 100,000 rows',
      value: bestMs(() => mergeBatch(new Fold(batch.definition), batch)),
      unit: 'ms',
    },
    { name: 'size of 100,000 rows', value: bytes.length / 2 ** 20, unit: 'MiB' },
  ];
  // The same as rows a second, the unit of wire and store.
  const rates = figures
    .filter(({ unit, name }) => name !== 'bucket index' && (unit === 'ns' || unit === 'ms'))
    .map(({ name, value, unit }) => ({
      name: name.replace('100,000 rows', 'a batch of 100,000'),
      value: unit === 'ns' ? 1e9 / value : (ROWS / value) * 1000,
      unit: 'rows/s',
    }));
  return [...figures, ...rates];
}

if (import.meta.main) printFigures(run());
