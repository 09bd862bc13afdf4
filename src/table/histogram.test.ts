import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { bucketCoarser, bucketLower, bucketScale, bucketUpper, ZERO_BUCKET } from './buckets.ts';
import { SCALE_MAX, SCALE_MIN } from './definition.ts';
import { Histogram, HistogramColumn } from './histogram.ts';
import { SEED } from './testing.ts';

const value = fc.double({ min: 2 ** -1022, noNaN: true, noDefaultInfinity: true });
const scale = fc.integer({ min: SCALE_MIN, max: SCALE_MAX });

/** For whole numbers without any rounding: the least i with value^(2^scale) <= 2^(i + 1). */
function exactIndex(whole: number, at: number): number {
  const power = BigInt(whole) ** (1n << BigInt(at)) - 1n;
  return power === 0n ? -1 : power.toString(2).length - 1;
}

test(`whole numbers fall into the exact bucket (seed ${SEED})`, () => {
  const near = fc.tuple(fc.nat(52 * 8), fc.integer({ min: -2, max: 2 })).map(([k, off]) => {
    return Math.max(1, Math.round(2 ** (k / 8)) + off);
  });
  const whole = fc.oneof(
    fc.maxSafeNat().filter((v) => v > 0),
    fc.integer({ min: 1, max: 5000 }),
  );
  const property = fc.property(fc.oneof(whole, near), fc.nat(6), (v, at) => {
    assert.equal(bucketScale(at).index(v), exactIndex(v, at));
  });
  fc.assert(property, { seed: SEED, numRuns: 2000 });
});

test(`doubles of any size fall where a logarithm puts them (seed ${SEED})`, () => {
  const property = fc.property(value, scale, (v, at) => {
    const index = bucketScale(at).index(v);
    const naive = Math.log2(v) * 2 ** at;
    // A logarithm is right to some 1e-13 only; on a boundary either neighbour will do for it.
    const error = 1e-12 * Math.max(1, Math.abs(naive));
    assert.ok(naive - error <= index + 1 && naive + error > index, `${v} at ${at}: ${index}`);
  });
  fc.assert(property, { seed: SEED, numRuns: 5000 });
});

test('powers of two belong to the bucket below, as OpenTelemetry has it', () => {
  for (let at = SCALE_MIN; at <= SCALE_MAX; at += 1) {
    const buckets = bucketScale(at);
    for (let exponent = -1022; exponent <= 1023; exponent += 1) {
      const expected = at > 0 ? exponent * 2 ** at - 1 : Math.ceil(exponent * 2 ** at) - 1;
      assert.equal(buckets.index(2 ** exponent), expected, `2^${exponent} at ${at}`);
    }
  }
});

test('the smallest, the greatest and nothing at all have buckets', () => {
  for (const at of [-10, -1, 0, 1, 3, 8]) {
    const buckets = bucketScale(at);
    assert.equal(buckets.index(0), ZERO_BUCKET);
    assert.equal(buckets.index(5e-324), buckets.index(2 ** -1022));
    assert.equal(buckets.index(Number.MAX_VALUE), buckets.index(2 ** 1023 * 1.999));
  }
  assert.equal(bucketLower(ZERO_BUCKET, 3), 0);
  assert.equal(bucketUpper(ZERO_BUCKET, 3), 0);
  // The same without the special case, as SQL computes it.
  assert.equal(2 ** (ZERO_BUCKET / 2 ** SCALE_MAX), 0);
});

test(`a coarser scale finds the same bucket from the value and from the index (seed ${SEED})`, () => {
  const property = fc.property(value, scale, scale, (v, a, b) => {
    const [fine, coarse] = [Math.max(a, b), Math.min(a, b)];
    const index = bucketScale(fine).index(v);
    assert.equal(bucketCoarser(index, fine - coarse), bucketScale(coarse).index(v));
  });
  fc.assert(property, { seed: SEED, numRuns: 2000 });
});

function histogramOf(values: readonly number[], at: number): Histogram {
  const histogram = new Histogram(at);
  for (const v of values) assert.ok(histogram.add(v));
  return histogram;
}

function content(histogram: Histogram): unknown {
  const { buckets, counts } = histogram.lists();
  return { buckets: [...buckets], counts: [...counts], total: histogram.total };
}

const observations = fc.array(fc.oneof(fc.nat(1e9), fc.constantFrom(0, 1, 8)), { maxLength: 80 });

test(`merged and downscaled histograms equal those made at once (seed ${SEED})`, () => {
  const property = fc.property(observations, observations, fc.nat(6), fc.nat(6), (a, b, p, q) => {
    const merged = histogramOf(a, p);
    merged.merge(histogramOf(b, q));
    const whole = histogramOf([...a, ...b], Math.min(p, q));
    assert.equal(merged.sum, whole.sum);
    assert.deepEqual(content(merged), content(whole));
  });
  fc.assert(property, { seed: SEED });
});

test(`a quantile lies within a bucket's width of the true one (seed ${SEED})`, () => {
  const some = fc.array(fc.integer({ min: 1, max: 1e9 }), { minLength: 1, maxLength: 200 });
  const property = fc.property(some, fc.double({ min: 0, max: 1, noNaN: true }), (values, q) => {
    const sorted = [...values].sort((a, b) => a - b);
    const rank = Math.min(sorted.length - 1, Math.max(0, Math.ceil(q * sorted.length) - 1));
    const ratio = histogramOf(values, 3).quantile(q) / sorted[rank]!;
    const width = 2 ** (1 / 8) * (1 + 1e-9);
    assert.ok(ratio <= width && ratio >= 1 / width, `${ratio}`);
  });
  fc.assert(property, { seed: SEED });
});

test('a histogram refuses what it cannot hold, and says so', () => {
  const histogram = new Histogram();
  assert.equal(histogram.add(-1), false);
  assert.equal(histogram.add(Number.NaN), false);
  assert.equal(histogram.total, 0);
  assert.ok(Number.isNaN(histogram.quantile(0.5)));
  assert.throws(() => histogram.downscale(4), /from 3 up to 4/);
  assert.throws(() => new Histogram(9), /scale 9/);
});

test(`a column holds each row's histogram as if it stood alone (seed ${SEED})`, () => {
  const cells = fc.array(fc.tuple(fc.nat(9), fc.nat(1e6)), { maxLength: 500 });
  const property = fc.property(cells, cells, (first, second) => {
    const column = new HistogramColumn(3);
    for (const round of [first, second]) {
      const alone = Array.from({ length: 10 }, () => new Histogram(3));
      for (const [row, v] of round) {
        column.add(row, v);
        alone[row]!.add(v);
      }
      const { offsets, buckets, counts } = column.toData(10, new Float64Array(10));
      for (const [row, histogram] of alone.entries()) {
        const lists = histogram.lists();
        const [from, to] = [offsets[row], offsets[row + 1]];
        assert.deepEqual([...buckets.subarray(from, to)], [...lists.buckets]);
        assert.deepEqual([...counts.subarray(from, to)], [...lists.counts]);
      }
      column.clear();
    }
  });
  fc.assert(property, { seed: SEED });
});
