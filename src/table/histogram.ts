// Exponential histograms. `Histogram` is one of them; `HistogramColumn` holds those of all rows of a fold in one
// hash table, so that a row costs nothing until it has a bucket and a known bucket costs no allocation.

import {
  type BucketScale,
  bucketCoarser,
  bucketLower,
  bucketScale,
  bucketUpper,
} from './buckets.ts';
import type { HistogramColumnData } from './columns.ts';
import { SCALE_DEFAULT } from './definition.ts';

const CAPACITY_MIN = 64;

/** Buckets as parallel lists, indices ascending; the zero bucket, if there, comes first. */
export interface BucketLists {
  readonly buckets: Int32Array;
  readonly counts: Float64Array;
}

/** One sparse histogram: 16 bytes a bucket in use. */
export class Histogram {
  #scale: BucketScale;
  #size = 0;
  #buckets = new Int32Array(8);
  #counts = new Float64Array(8);
  total = 0;
  sum = 0;

  constructor(scale: number = SCALE_DEFAULT) {
    this.#scale = bucketScale(scale);
  }

  get scale(): number {
    return this.#scale.scale;
  }

  /** Counts a value >= 0. Others (negative, NaN) are refused with false. */
  add(value: number, count = 1): boolean {
    if (!(value >= 0)) return false;
    this.addBucket(this.#scale.index(value), count);
    this.sum += value * count;
    return true;
  }

  /** Counts into a bucket by its index at this scale; `sum` is the caller's. */
  addBucket(bucket: number, count: number): void {
    const at = lowerBound(this.#buckets, this.#size, bucket);
    this.total += count;
    if (at < this.#size && this.#buckets[at] === bucket) {
      this.#counts[at]! += count;
      return;
    }
    if (this.#size === this.#buckets.length) this.#grow();
    this.#buckets.copyWithin(at + 1, at, this.#size);
    this.#counts.copyWithin(at + 1, at, this.#size);
    this.#buckets[at] = bucket;
    this.#counts[at] = count;
    this.#size += 1;
  }

  /** Adds all of another; the result has the coarser scale of the two. */
  merge(other: Histogram): void {
    if (other.scale < this.scale) this.downscale(other.scale);
    const steps = other.scale - this.scale;
    const { buckets, counts } = other.lists();
    for (let i = 0; i < buckets.length; i += 1) {
      this.addBucket(bucketCoarser(buckets[i]!, steps), counts[i]!);
    }
    this.sum += other.sum;
  }

  /** Makes the buckets coarser. To a finer scale there is no way: that asks for an Error. */
  downscale(scale: number): void {
    const steps = this.scale - scale;
    if (steps < 0) throw new Error(`cannot rescale a histogram from ${this.scale} up to ${scale}`);
    this.#scale = bucketScale(scale);
    let size = 0;
    for (let i = 0; i < this.#size; i += 1) {
      const bucket = bucketCoarser(this.#buckets[i]!, steps);
      const count = this.#counts[i]!;
      if (size > 0 && this.#buckets[size - 1] === bucket) {
        this.#counts[size - 1]! += count;
        continue;
      }
      this.#buckets[size] = bucket;
      this.#counts[size] = count;
      size += 1;
    }
    this.#size = size;
  }

  /** Value below which the share `q` of the observations lies; NaN if there are none. */
  quantile(q: number): number {
    const { buckets, counts } = this.lists();
    return quantile(buckets, counts, this.scale, q);
  }

  /** Views, not copies: they hold until the next change. */
  lists(): BucketLists {
    return {
      buckets: this.#buckets.subarray(0, this.#size),
      counts: this.#counts.subarray(0, this.#size),
    };
  }

  #grow(): void {
    const buckets = new Int32Array(this.#size * 2);
    const counts = new Float64Array(this.#size * 2);
    buckets.set(this.#buckets);
    counts.set(this.#counts);
    this.#buckets = buckets;
    this.#counts = counts;
  }
}

/**
 * Quantile of ascending buckets, interpolated along the logarithm as Prometheus does for its native histograms.
 * The error is at most the width of a bucket: a factor of 2^(1 / 2^scale).
 */
export function quantile(
  buckets: ArrayLike<number>,
  counts: ArrayLike<number>,
  scale: number,
  q: number,
): number {
  let total = 0;
  for (let i = 0; i < counts.length; i += 1) total += counts[i]!;
  if (total === 0 || !(q >= 0 && q <= 1)) return Number.NaN;
  const rank = q * total;
  let before = 0;
  let last = 0;
  for (let i = 0; i < buckets.length; i += 1) {
    const count = counts[i]!;
    if (count === 0) continue;
    last = i;
    if (before + count >= rank) break;
    before += count;
  }
  const bucket = buckets[last]!;
  const lower = bucketLower(bucket, scale);
  if (lower === 0) return bucketUpper(bucket, scale);
  const share = Math.min(1, (rank - before) / counts[last]!);
  return lower * (bucketUpper(bucket, scale) / lower) ** share;
}

/** The histograms of a column: buckets keyed by row and index, in open addressing. */
export class HistogramColumn {
  readonly scale: number;
  readonly #buckets: BucketScale;
  #size = 0;
  #mask = CAPACITY_MIN - 1;
  /** Two words a slot: row + 1 (0 if free) and the bucket's index. */
  #keys = new Int32Array(CAPACITY_MIN * 2);
  #counts = new Float64Array(CAPACITY_MIN);

  constructor(scale: number = SCALE_DEFAULT) {
    this.scale = scale;
    this.#buckets = bucketScale(scale);
  }

  /** Counts a value, which the caller has checked to be >= 0. */
  add(row: number, value: number): void {
    this.addBucket(row, this.#buckets.index(value), 1);
  }

  /** Counts a value that was seen `count` times. */
  addValue(row: number, value: number, count: number): void {
    this.addBucket(row, this.#buckets.index(value), count);
  }

  addBucket(row: number, bucket: number, count: number): void {
    const keys = this.#keys;
    const mask = this.#mask;
    const mark = row + 1;
    let slot = slotOf(row, bucket) & mask;
    while (keys[slot * 2] !== 0) {
      if (keys[slot * 2] === mark && keys[slot * 2 + 1] === bucket) {
        this.#counts[slot]! += count;
        return;
      }
      slot = (slot + 1) & mask;
    }
    keys[slot * 2] = mark;
    keys[slot * 2 + 1] = bucket;
    this.#counts[slot] = count;
    this.#size += 1;
    if (this.#size * 2 > mask) this.#grow();
  }

  /** The columns of the first `rows` rows; `sums` is the fold's own cell. */
  toData(rows: number, sums: Float64Array): HistogramColumnData {
    const offsets = new Int32Array(rows + 1);
    const keys = this.#keys;
    for (let slot = 0; slot <= this.#mask; slot += 1) {
      const mark = keys[slot * 2]!;
      if (mark !== 0) offsets[mark]! += 1;
    }
    for (let row = 0; row < rows; row += 1) offsets[row + 1]! += offsets[row]!;
    const next = offsets.slice(0, rows);
    const buckets = new Int32Array(this.#size);
    const counts = new Float64Array(this.#size);
    for (let slot = 0; slot <= this.#mask; slot += 1) {
      const mark = keys[slot * 2]!;
      if (mark === 0) continue;
      const at = next[mark - 1]!;
      next[mark - 1] = at + 1;
      insertSorted(
        buckets,
        counts,
        offsets[mark - 1]!,
        at,
        keys[slot * 2 + 1]!,
        this.#counts[slot]!,
      );
    }
    return { scale: this.scale, offsets, buckets, counts, sums };
  }

  /** Empties it; gives memory back if the last use took less than an eighth. */
  clear(): void {
    const capacity = this.#mask + 1;
    if (capacity > CAPACITY_MIN && this.#size * 8 < capacity) this.#resize(capacity / 2);
    else this.#keys.fill(0);
    this.#size = 0;
  }

  #resize(capacity: number): void {
    this.#mask = capacity - 1;
    this.#keys = new Int32Array(capacity * 2);
    this.#counts = new Float64Array(capacity);
  }

  #grow(): void {
    const keys = this.#keys;
    const counts = this.#counts;
    this.#resize(counts.length * 2);
    this.#size = 0;
    for (let slot = 0; slot < counts.length; slot += 1) {
      if (keys[slot * 2] === 0) continue;
      this.addBucket(keys[slot * 2]! - 1, keys[slot * 2 + 1]!, counts[slot]!);
    }
  }
}

/** Buckets of a row are a few dozen and come in any order: insertion is the cheapest sort of such. */
function insertSorted(
  buckets: Int32Array,
  counts: Float64Array,
  from: number,
  end: number,
  bucket: number,
  count: number,
): void {
  let at = end;
  while (at > from && buckets[at - 1]! > bucket) {
    buckets[at] = buckets[at - 1]!;
    counts[at] = counts[at - 1]!;
    at -= 1;
  }
  buckets[at] = bucket;
  counts[at] = count;
}

function slotOf(row: number, bucket: number): number {
  const mixed = Math.imul(Math.imul(row, 0x9e3779b1) ^ bucket, 0x85ebca6b);
  return mixed ^ (mixed >>> 15);
}

function lowerBound(buckets: Int32Array, size: number, bucket: number): number {
  let low = 0;
  let high = size;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (buckets[middle]! < bucket) low = middle + 1;
    else high = middle;
  }
  return low;
}
