// Folds a batch into a fold of the same table: what two intervals, two spool entries or two collectors have in
// common becomes one. Sums, buckets, least and greatest are exact; `last` is the batch merged last; `mean` weighs by the
// rows' own weights.

import { bucketCoarser } from './buckets.ts';
import { type Batch, isHistogramColumn, isStringColumn } from './columns.ts';
import type { Fold } from './fold.ts';

/**
 * Adds all rows of a batch, events with their own times.
 * Throws if the batch is of another table: the caller has mixed them up.
 */
export function mergeBatch(fold: Fold, batch: Batch): void {
  const { definition } = fold;
  if (batch.definition !== definition && !sameColumns(batch, fold)) {
    throw new Error(`cannot merge a batch of "${batch.definition.name}" into "${definition.name}"`);
  }
  const columns = batch.dimensions.map((column) =>
    isStringColumn(column)
      ? { values: column.ids, ids: column.dictionary.map((text) => fold.intern(text)) }
      : { values: column.values, ids: undefined },
  );
  const plain = batch.measures.map((column) =>
    isHistogramColumn(column) ? undefined : column.values,
  );
  const dims = new Float64Array(columns.length);
  const measures = new Float64Array(plain.length);
  for (let row = 0; row < batch.rows; row += 1) {
    for (let i = 0; i < columns.length; i += 1) {
      const { values, ids } = columns[i]!;
      dims[i] = ids === undefined ? values[row]! : ids[values[row]!]!;
    }
    for (let i = 0; i < plain.length; i += 1) measures[i] = plain[i]?.[row] ?? Number.NaN;
    const target = fold.addRow(dims, measures, batch.times_ms[row]!);
    if (target >= 0) mergeHistograms(fold, target, batch, row);
  }
}

function mergeHistograms(fold: Fold, target: number, batch: Batch, row: number): void {
  for (let i = 0; i < batch.measures.length; i += 1) {
    const column = batch.measures[i]!;
    if (!isHistogramColumn(column)) continue;
    const histogram = fold.bucketsOf(target, i, column.sums[row]!);
    const steps = column.scale - histogram.scale;
    if (steps < 0) {
      throw new Error(`cannot merge a histogram of scale ${column.scale} into ${histogram.scale}`);
    }
    const end = column.offsets[row + 1]!;
    for (let at = column.offsets[row]!; at < end; at += 1) {
      histogram.addBucket(target, bucketCoarser(column.buckets[at]!, steps), column.counts[at]!);
    }
  }
}

function sameColumns(batch: Batch, fold: Fold): boolean {
  const a = batch.definition;
  const b = fold.definition;
  if (a.name !== b.name || a.kind !== b.kind) return false;
  const shape = ({ dimensions, measures }: typeof a): string =>
    JSON.stringify([
      dimensions.map(({ name, type }) => [name, type]),
      measures.map(({ name, type, fold: how, weight }) => [name, type, how, weight]),
    ]);
  return shape(a) === shape(b);
}
