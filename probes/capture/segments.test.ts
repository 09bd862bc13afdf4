// Reassembly against the stream that was cut up: in any order, with repeats and overlaps, and with pieces that never come.

import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { SegmentBudget, Segments, type StreamReader } from './segments.ts';

const SEED = { seed: 20_261_126, numRuns: 400 };
const S = 1e9;

class Keeper implements StreamReader {
  readonly parts: Uint8Array[] = [];
  holes = 0;

  bytes(bytes: Uint8Array): void {
    this.parts.push(new Uint8Array(bytes));
  }

  hole(count: number): void {
    assert.ok(count > 0);
    this.holes += count;
    this.parts.push(new Uint8Array(count).fill(0)); // no byte of the streams here is 0
  }

  get all(): Buffer {
    return Buffer.concat(this.parts);
  }
}

function stream(length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => 1 + ((i * 31) % 255));
}

interface Cut {
  readonly from: number;
  readonly to: number;
}

const cuts = fc.array(fc.record({ from: fc.nat(2000), length: fc.integer({ min: 1, max: 300 }) }), {
  maxLength: 60,
});

test('any order, repeats and overlaps give the stream', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 2000 }),
      fc.integer({ min: 0, max: 0xffffffff }),
      cuts,
      fc.array(fc.nat(), { minLength: 200, maxLength: 200 }),
      (length, start, extra, order) => {
        const whole = stream(length);
        const pieces: Cut[] = extra.flatMap(({ from, length: n }) =>
          from < length ? [{ from, to: Math.min(from + n, length) }] : [],
        );
        for (let at = 0; at < length; at += 37) {
          pieces.push({ from: at, to: Math.min(at + 37, length) });
        }
        const shuffled = pieces
          .map((piece, i) => ({ piece, rank: order[i % order.length]! + i * 1e-6 }))
          .sort((a, b) => a.rank - b.rank);
        const keeper = new Keeper();
        const budget = new SegmentBudget(1000, 1 << 20);
        const segments = new Segments(keeper, budget);
        segments.begin(start);
        for (const { piece } of shuffled) {
          const bytes = whole.subarray(piece.from, piece.to);
          segments.push((start + piece.from) >>> 0, bytes.length, bytes, 0); // wraps
        }
        assert.deepEqual(keeper.all, Buffer.from(whole));
        assert.deepEqual([keeper.holes, budget.chunks, budget.bytes], [0, 0, 0]);
      },
    ),
    SEED,
  );
});

test('what never comes is a hole of its length, and the rest is read', () => {
  fc.assert(
    fc.property(
      fc.array(fc.boolean(), { minLength: 1, maxLength: 60 }),
      fc.boolean(),
      (lost, by_time) => {
        const whole = stream(lost.length * 10);
        const keeper = new Keeper();
        const budget = new SegmentBudget(1000, 1 << 20);
        const segments = new Segments(keeper, budget);
        segments.begin(7);
        lost.forEach((is_lost, i) => {
          if (is_lost) return;
          segments.push(7 + i * 10, 10, whole.subarray(i * 10, i * 10 + 10), i);
        });
        if (by_time) segments.tick(100 * S);
        else segments.finish();
        const last = lost.lastIndexOf(false);
        const expected = Buffer.from(whole.subarray(0, (last + 1) * 10));
        lost.slice(0, last + 1).forEach((is_lost, i) => {
          if (is_lost) expected.fill(0, i * 10, i * 10 + 10);
        });
        assert.deepEqual(keeper.all, expected);
        assert.equal(keeper.holes, lost.slice(0, last + 1).filter(Boolean).length * 10);
        assert.deepEqual([budget.chunks, budget.bytes], [0, 0]);
      },
    ),
    SEED,
  );
});

test('what waits has a limit, for one stream and for all', () => {
  const keeper = new Keeper();
  const budget = new SegmentBudget(10, 1 << 20);
  const segments = new Segments(keeper, budget);
  segments.begin(0);
  for (let i = 1; i <= 20; i += 1) segments.push(i * 10, 5, stream(5), 0);
  assert.deepEqual([budget.chunks, budget.refused, budget.chunks_most], [10, 10, 11]);
  segments.finish();
  assert.deepEqual([budget.chunks, budget.bytes], [0, 0]);
  const many = new SegmentBudget(1e6, 1 << 30);
  const one = new Segments(new Keeper(), many);
  one.begin(0);
  for (let i = 1; i <= 3000; i += 1) one.push(i * 10, 5, stream(5), 0);
  assert.ok(one.waiting <= 1024);
  assert.equal(many.refused, 0);
});

test('a piece from nowhere near is a stray', () => {
  const budget = new SegmentBudget(10, 1 << 20);
  const segments = new Segments(new Keeper(), budget);
  segments.begin(0);
  segments.push(1 << 30, 5, stream(5), 0);
  assert.deepEqual([budget.strays, budget.chunks], [1, 0]);
});
