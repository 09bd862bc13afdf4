// The arithmetic of OpenTelemetry's exponential histograms: bucket i at scale s holds values in
// (2^(i / 2^s), 2^((i + 1) / 2^s)]. An index is read off the bits of the double and one comparison with
// a boundary, which is exact where a logarithm is not.

import { SCALE_MAX, SCALE_MIN } from './definition.ts';

/**
 * The index that stands for the value 0. As an exponent it is so small that the bounds of the bucket come out as 0 by
 * the same formula as all others, here and in SQL; shifting it right on a downscale must be avoided.
 */
export const ZERO_BUCKET = -0x80000000;

// One double seen as two words. Both platforms that sonde runs on (x64, arm64) are little-endian.
const DOUBLE = new Float64Array(1);
const WORDS = new Uint32Array(DOUBLE.buffer);
const EXPONENT_BIAS = 1023;
const MANTISSA_HIGH_BITS = 20;
const MANTISSA_HIGH_MASK = 0xfffff;
/** High word of the doubles from 1 up to 2. */
const ONE_HIGH = 0x3ff00000;

/** Finds buckets at one scale. The tables hold 3 × 2^scale numbers: 8 KiB at the finest. */
export class BucketScale {
  readonly scale: number;
  readonly #shift: number;
  /** By the first scale + 1 bits of the mantissa: the bucket in which such values begin. */
  readonly #first: Uint16Array;
  /** Smallest double above 2^(k / 2^scale), for k from 0 to 2^scale. */
  readonly #bounds: Float64Array;

  constructor(scale: number) {
    if (!Number.isInteger(scale) || scale < SCALE_MIN || scale > SCALE_MAX) {
      throw new Error(`histogram scale ${scale} is not from ${SCALE_MIN} to ${SCALE_MAX}`);
    }
    const fine = Math.max(scale, 0);
    this.scale = scale;
    this.#shift = MANTISSA_HIGH_BITS - fine - 1;
    this.#bounds = boundsOf(fine);
    this.#first = firstOf(fine, this.#bounds);
  }

  /**
   * Bucket of a value >= 0. Values below 2^-1022 count as that, infinity as 2^1024.
   * Two boundaries are never closer than a slot of the table is wide, so one comparison decides.
   */
  index(value: number): number {
    if (value === 0) return ZERO_BUCKET;
    DOUBLE[0] = value;
    const high = WORDS[1]!;
    const fraction = high & MANTISSA_HIGH_MASK;
    const exponent = (high >>> MANTISSA_HIGH_BITS) - EXPONENT_BIAS;
    const scale = this.scale;
    if (exponent === -EXPONENT_BIAS) return scale > 0 ? (-1022 << scale) - 1 : -1023 >> -scale;
    const power = fraction === 0 && WORDS[0] === 0;
    if (scale <= 0) return (power ? exponent - 1 : exponent) >> -scale;
    if (power) return (exponent << scale) - 1;
    WORDS[1] = fraction | ONE_HIGH;
    const first = this.#first[fraction >>> this.#shift]!;
    const above = DOUBLE[0] >= this.#bounds[first + 1]! ? 1 : 0;
    return (exponent << scale) + first + above;
  }
}

const scales = new Map<number, BucketScale>();

/** The one `BucketScale` of a scale: its tables are made once. */
export function bucketScale(scale: number): BucketScale {
  const known = scales.get(scale);
  if (known !== undefined) return known;
  const made = new BucketScale(scale);
  scales.set(scale, made);
  return made;
}

/** Lower bound of a bucket, itself outside of it; 0 for the zero bucket. */
export function bucketLower(index: number, scale: number): number {
  return index === ZERO_BUCKET ? 0 : 2 ** (index * 2 ** -scale);
}

/** Upper bound of a bucket, inside of it; 0 for the zero bucket. */
export function bucketUpper(index: number, scale: number): number {
  return index === ZERO_BUCKET ? 0 : 2 ** ((index + 1) * 2 ** -scale);
}

/** The bucket at a scale coarser by `steps` that holds this one. */
export function bucketCoarser(index: number, steps: number): number {
  return index === ZERO_BUCKET ? ZERO_BUCKET : index >> steps;
}

function boundsOf(scale: number): Float64Array {
  const count = 1 << scale;
  const bounds = new Float64Array(count + 1);
  bounds[0] = 1;
  bounds[count] = 2;
  for (let k = 1; k < count; k += 1) bounds[k] = boundAbove(k, scale);
  return bounds;
}

/** Smallest double above 2^(k / 2^scale), decided in whole numbers: m^(2^scale) > 2^k. Once at start, hence BigInt. */
function boundAbove(k: number, scale: number): number {
  const power = 1n << BigInt(scale);
  const limit = 1n << (BigInt(k) + 52n * power);
  let mantissa = BigInt(Math.round(2 ** (k * 2 ** -scale) * 2 ** 52));
  while (mantissa ** power <= limit) mantissa += 1n;
  while ((mantissa - 1n) ** power > limit) mantissa -= 1n;
  return Number(mantissa) * 2 ** -52;
}

function firstOf(scale: number, bounds: Float64Array): Uint16Array {
  const slots = 2 << scale;
  const first = new Uint16Array(slots);
  let bucket = 0;
  for (let slot = 0; slot < slots; slot += 1) {
    while (bounds[bucket + 1]! <= 1 + slot / slots) bucket += 1;
    first[slot] = bucket;
  }
  return first;
}
