// Histograms as the kernel side keeps them (bpf/histogram.bpf.h), into a measure of scale 0: bucket for bucket.

import { ZERO_BUCKET } from '../src/table/buckets.ts';
import type { Fold } from '../src/table/fold.ts';
import { histogram } from './layout.gen.ts';

const U32 = 2 ** 32;

/** Adds the histogram at byte `at` to the measure at position `measure` of a row that `Fold.addRow` gave. */
export function addSlots(
  fold: Fold,
  row: number,
  measure: number,
  view: DataView,
  at: number,
): void {
  const sum = view.getUint32(at, true) + view.getUint32(at + 4, true) * U32;
  const slots = at + histogram.slots;
  const buckets = fold.bucketsOf(row, measure, sum);
  for (let slot = 0; slot < histogram.slots_length; slot += 1) {
    const count = view.getUint32(slots + slot * 4, true);
    if (count > 0) buckets.addBucket(row, slot === 0 ? ZERO_BUCKET : slot - 2, count);
  }
}
