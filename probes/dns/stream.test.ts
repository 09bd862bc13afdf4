// Messages over TCP, however the network cuts, repeats or reorders their segments.

import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { DnsStreams, type Segment } from './stream.ts';
import { joined, u16 } from './testing.ts';

const SEED = 20_260_127;
const KEPT_MAX = 2048;

function framed(lengths: readonly number[]): { stream: Uint8Array; messages: Uint8Array[] } {
  const messages = lengths.map((length, n) =>
    Uint8Array.from({ length }, (_, i) => (i * 7 + n * 31) & 255),
  );
  return { stream: joined(messages.flatMap((one) => [u16(one.length), one])), messages };
}

function segment(stream: Uint8Array, from: number, to: number, seq: number): Segment {
  const length = to - from;
  return { seq: (seq + from) | 0, length, captured: length, bytes: stream, at: from };
}

/** Bytes of each message as far as they are kept, and its length. */
function read(streams: DnsStreams, segments: readonly Segment[]): [string, number][] {
  return segments.flatMap((one) =>
    streams.feed('k', one).map((piece): [string, number] => [hex(piece.bytes), piece.length]),
  );
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const whole = (messages: readonly Uint8Array[]): [string, number][] =>
  messages.map((one) => [hex(one.subarray(0, KEPT_MAX)), one.length]);

test(`cut anywhere, with repeats, across the wrap of numbers, seed ${SEED}`, () => {
  const lengths = fc.array(fc.integer({ min: 12, max: 5000 }), { minLength: 1, maxLength: 5 });
  const cuts = fc.array(fc.nat(), { maxLength: 12 });
  const starts = fc.constantFrom(0, 1, 0x7fff_ffff, 0xffff_fff0);
  fc.assert(
    fc.property(lengths, cuts, starts, fc.nat({ max: 3 }), (sizes, places, seq, again) => {
      const { stream, messages } = framed(sizes);
      const ends = [...new Set(places.map((place) => place % stream.length)), stream.length]
        .filter((end) => end > 0)
        .sort((a, b) => a - b);
      const segments = ends.map((end, i) => segment(stream, ends[i - 1] ?? 0, end, seq));
      const sent = segments.flatMap((one, i) => (i % 4 === again ? [one, one] : [one]));
      const streams = new DnsStreams();
      assert.deepEqual(read(streams, sent), whole(messages));
      assert.equal(streams.lost, 0);
    }),
    { seed: SEED, numRuns: 500 },
  );
});

test('out of order: what came too early waits', () => {
  const { stream, messages } = framed([20, 40, 3000, 50]);
  const at = [0, 10, 30, 80, 1000, 3000, stream.length];
  const parts = at.slice(1).map((end, i) => segment(stream, at[i]!, end, 5));
  const order = [0, 3, 2, 5, 1, 4].map((i) => parts[i]!);
  const streams = new DnsStreams();
  assert.deepEqual(read(streams, order), whole(messages));
  assert.equal(streams.lost, 0);
});

test('bytes that were not captured: the next segment is believed to begin anew', () => {
  const { stream, messages } = framed([100, 100]);
  const cut = { ...segment(stream, 0, stream.length, 9), captured: 60 };
  const streams = new DnsStreams();
  assert.deepEqual(read(streams, [cut]), [[hex(messages[0]!.subarray(0, 58)), 100]]);
  assert.equal(streams.lost, 1);
  const next = framed([30]);
  const follows = segment(next.stream, 0, 32, 9 + stream.length);
  assert.deepEqual(read(streams, [follows]), whole(next.messages));
});

test('a segment that never comes is given up after some', () => {
  const { stream, messages } = framed(Array.from({ length: 12 }, () => 30));
  const parts = messages.map((_, i) => segment(stream, i * 32, (i + 1) * 32, 0));
  const streams = new DnsStreams();
  const found = read(streams, [parts[0]!, ...parts.slice(2)]);
  assert.equal(found.length, 11);
  assert.equal(streams.lost, 1);
});

test(`no bytes make it throw or keep more than its limits, seed ${SEED}`, () => {
  const segments = fc.record({
    key: fc.nat({ max: 9000 }),
    seq: fc.integer(),
    bytes: fc.uint8Array({ maxLength: 300 }),
    more: fc.nat({ max: 3000 }),
  });
  const streams = new DnsStreams();
  fc.assert(
    fc.property(segments, ({ key, seq, bytes, more }) => {
      const { length } = bytes;
      for (const piece of streams.feed(String(key), {
        ...{ seq, bytes, at: 0, captured: length, length: length + more },
      })) {
        assert.ok(piece.bytes.length <= KEPT_MAX && piece.length >= 12);
      }
      assert.ok(streams.size <= 4096);
    }),
    { seed: SEED, numRuns: 10_000 },
  );
});
