// For tests of decoders of maps: a context without a kernel, entries from bytes, and the rows of a batch.

import { type Batch, isHistogramColumn, isStringColumn } from '../src/table/columns.ts';
import type { TableDefinition } from '../src/table/definition.ts';
import { DomainCache } from '../src/table/domains.ts';
import { Fold } from '../src/table/fold.ts';
import type { CgroupPlace, DecodeContext, MapEntries, Netns, Owner } from '../src/table/probe.ts';
import { probeOptions } from '../src/table/testing.ts';

export type TestRow = Readonly<Record<string, string | number>>;

export interface TestContext extends DecodeContext {
  /** What was noted and dropped, in words. */
  readonly said: readonly string[];
  /** Closes the interval. */
  rows(table: TableDefinition): readonly TestRow[];
}

export interface TestKernel {
  readonly owner?: (tgid: number, start_ns: number, cgroup_id: number) => Owner;
  readonly cgroup?: (id: number) => CgroupPlace | undefined;
  readonly kernelEnum?: (name: string) => ReadonlyMap<number, string>;
  readonly netns?: () => readonly Netns[];
}

const NOBODY: Owner = {
  process_name: '',
  process_executable_path: '',
  cgroup_path: '',
  container_id: '',
};

export function testContext({ owner, ...kernel }: TestKernel = {}): TestContext {
  const folds = new Map<TableDefinition, Fold>();
  const said: string[] = [];
  const fold = (table: TableDefinition): Fold => {
    const known = folds.get(table) ?? new Fold(table);
    folds.set(table, known);
    return known;
  };
  return {
    fold,
    owner: owner ?? (() => NOBODY),
    ...kernel,
    options: probeOptions,
    domains: new DomainCache(),
    note: (what, count) => said.push(`${what} ${count}`),
    dropped: (what, reason, count) => said.push(`${what} ${reason} ${count}`),
    said,
    rows: (table) => rowsOf(fold(table).close(1000)),
  };
}

/** Keys of `key_size` and values of `value_stride` bytes, as the kernel gives them. */
export function entriesOf(
  key_size: number,
  value_stride: number,
  pairs: readonly (readonly [Uint8Array, Uint8Array])[],
): MapEntries {
  const keys = new Uint8Array(pairs.length * key_size);
  const values = new Uint8Array(pairs.length * value_stride);
  pairs.forEach(([key, value], i) => {
    keys.set(key, i * key_size);
    values.set(value, i * value_stride);
  });
  return { count: pairs.length, keys, values, key_size, value_stride };
}

export function u64Bytes(...values: readonly bigint[]): Uint8Array {
  return new Uint8Array(BigUint64Array.from(values).buffer);
}

/** By column name; a histogram is its sum. */
export function rowsOf(batch: Batch | undefined): readonly TestRow[] {
  if (batch === undefined) return [];
  const { dimensions, measures } = batch.definition;
  return Array.from({ length: batch.rows }, (_, r) => {
    const row: Record<string, string | number> = {};
    batch.dimensions.forEach((column, i) => {
      row[dimensions[i]!.name] = isStringColumn(column)
        ? column.dictionary[column.ids[r]!]!
        : column.values[r]!;
    });
    batch.measures.forEach((column, i) => {
      row[measures[i]!.name] = isHistogramColumn(column) ? column.sums[r]! : column.values[r]!;
    });
    return row;
  });
}
