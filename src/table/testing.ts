// Tables and streams of rows for the tests of this folder, and the naive fold that they are held against.

import fc from 'fast-check';
import { type Batch, isHistogramColumn, isStringColumn } from './columns.ts';
import { defineTable, type TableDefinition } from './definition.ts';
import { Fold, type FoldOptions } from './fold.ts';
import type { ProbeOptions } from './probe.ts';

/** What decoders go by, for tests: all that a probe can do is asked for. */
export const probeOptions: ProbeOptions = {
  ephemeral_port: 10_001,
  maps: { sockets_max: 64, processes_max: 64, syscalls_max: 64, process_totals_max: 64 },
  syscalls: { latency: true },
  fileio: { latency: true },
  scheduler: { latency: true },
  memory: { allocations: true },
  process: { arguments: true },
  dns: { ports: [53], timeout: 5000, domains_max: 1000 },
};

/** Of all property tests; printed in their names, so that a failure can be had again. */
export const SEED = 20_260_101;

/** One column of each kind. */
export const sampleTable = defineTable({
  name: 'sample',
  help: 'One column of each kind',
  kind: 'fold',
  rows_max: 1000,
  dimensions: [
    { name: 'text', type: 'string', help: 'Any text' },
    { name: 'side', type: 'string', help: 'A closed set', values: ['client', 'server'] },
    { name: 'tiny', type: 'u8', help: 'One byte' },
    { name: 'port', type: 'u16', help: 'Two bytes' },
    { name: 'address', type: 'u32', help: 'Four bytes' },
    { name: 'code', type: 'i32', help: 'Four bytes, signed' },
    { name: 'cgroup', type: 'u64', help: 'Eight bytes' },
  ],
  measures: [
    { name: 'bytes', type: 'u64', unit: 'By', fold: 'sum', help: 'Whole sum' },
    { name: 'seconds', type: 'f64', unit: 's', fold: 'sum', help: 'Real sum' },
    { name: 'least', type: 'u64', unit: 'us', fold: 'min', help: 'Least' },
    { name: 'most', type: 'u64', unit: 'us', fold: 'max', help: 'Greatest' },
    { name: 'state', type: 'f64', unit: '1', fold: 'last', help: 'Last' },
    { name: 'rtt', type: 'f64', unit: 'us', fold: 'mean', weight: 'bytes', help: 'Weighted mean' },
    { name: 'latency', type: 'u64', unit: 'ns', fold: 'histogram', help: 'Distribution' },
    { name: 'size', type: 'f64', unit: 'By', fold: 'histogram', scale: 1, help: 'Coarser' },
  ],
});

export const sampleEvents = defineTable({ ...sampleTable, name: 'sample_event', kind: 'event' });

/** Dimensions and measures as a test writes them down; undefined is nothing observed. */
export interface SampleRow {
  readonly dimensions: readonly (string | number)[];
  readonly measures: readonly (number | undefined)[];
}

/** Neighbours differ in one place only, by the sign, by the high word, or by what looks the same. */
const KEYS: readonly (readonly (string | number)[])[] = [
  ['', 'client', 0, 0, 0, 0, 0],
  ['', 'server', 0, 0, 0, 0, 0],
  ['a', 'client', 0, 0, 0, 0, 0],
  ['\u0000', 'client', 0, 0, 0, 0, 0],
  ['<other>', 'client', 0, 0, 0, 0, 0],
  ['ü€😀', 'client', 255, 65535, 0xffffffff, -1, 2 ** 53 - 1],
  ['ü€😀', 'client', 255, 65535, 0xffffffff, 0x7fffffff, 2 ** 53 - 1],
  ['ü€😀', 'client', 255, 65535, 0x80000000, -0x80000000, 2 ** 32],
  ['ü€😀', 'client', 255, 65535, 0x80000000, -0x80000000, 2 ** 33],
  ['ü€😀', 'client', 255, 65535, 0x80000000, -0x80000000, 0],
];

/** Few keys, so that rows meet; all measures whole, so that sums are exact in any order. */
export const sampleRow: fc.Arbitrary<SampleRow> = fc.record({
  dimensions: fc.constantFrom(...KEYS),
  measures: fc.tuple(
    fc.nat(2 ** 30),
    fc.integer({ min: -1000, max: 1000 }),
    fc.option(fc.maxSafeNat(), { nil: undefined }),
    fc.option(fc.maxSafeNat(), { nil: undefined }),
    fc.option(fc.integer(), { nil: undefined }),
    fc.option(fc.nat(2 ** 20), { nil: undefined }),
    fc.option(fc.nat(2 ** 40), { nil: undefined }),
    fc.option(fc.nat(2 ** 20), { nil: undefined }),
  ),
});

export const sampleRows = fc.array(sampleRow, { maxLength: 200 });

export function addRow(fold: Fold, { dimensions, measures }: SampleRow, time_ms = 0): boolean {
  const dims = Float64Array.from(dimensions, (value) =>
    typeof value === 'string' ? fold.intern(value) : value,
  );
  const values = Float64Array.from(measures, (value) => value ?? Number.NaN);
  return fold.add(dims, values, time_ms);
}

export function foldRows(
  def: TableDefinition,
  rows: readonly SampleRow[],
  options?: FoldOptions,
): Fold {
  const fold = new Fold(def, options);
  for (const row of rows) addRow(fold, row);
  return fold;
}

/** A measure of one key, folded the obvious way from all values that were observed. */
export interface NaiveCell {
  readonly values: readonly { readonly value: number; readonly weight: number }[];
}

/** Every observation of every key, in order: what any fold must be computable from. */
export function naiveFold(
  def: TableDefinition,
  rows: readonly SampleRow[],
): Map<string, NaiveCell[]> {
  const keys = new Map<string, { values: { value: number; weight: number }[] }[]>();
  for (const { dimensions, measures } of rows) {
    const key = JSON.stringify(dimensions);
    const cells = keys.get(key) ?? def.measures.map(() => ({ values: [] }));
    keys.set(key, cells);
    for (const [i, value] of measures.entries()) {
      if (value === undefined) continue;
      const weigher = def.measures.findIndex(({ name }) => name === def.measures[i]!.weight);
      cells[i]!.values.push({ value, weight: measures[weigher] ?? 0 });
    }
  }
  return keys;
}

/** A batch as plain rows by key: only tests look at rows as objects. */
export function batchRows(batch: Batch | undefined): Map<string, readonly unknown[]> {
  const rows = new Map<string, readonly unknown[]>();
  for (let row = 0; row < (batch?.rows ?? 0); row += 1) {
    const dims = batch!.dimensions.map((column) =>
      isStringColumn(column) ? column.dictionary[column.ids[row]!] : column.values[row],
    );
    const measures = batch!.measures.map((column) => {
      if (!isHistogramColumn(column)) return column.values[row];
      const [from, to] = [column.offsets[row], column.offsets[row + 1]];
      return {
        buckets: [...column.buckets.subarray(from, to)],
        counts: [...column.counts.subarray(from, to)],
        sum: column.sums[row],
      };
    });
    rows.set(JSON.stringify(dims), measures);
  }
  return rows;
}
