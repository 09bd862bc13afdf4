import assert from 'node:assert/strict';
import test from 'node:test';
import { http2_flag } from '../layout.gen.ts';
import type { Piece } from './order.ts';
import { Parked } from './parked.ts';

const { HTTP2_BEGIN, HTTP2_RAW, HTTP2_HOLE } = http2_flag;

const piece = (flags: number, length: number): Piece => {
  return { flags, from: 0, to: length, skip: 0, now_ns: 0, bytes: new Uint8Array(length).fill(7) };
};

test('what came is kept for its connection, once, as a copy', () => {
  let unclaimed = 0;
  const parked = new Parked(() => (unclaimed += 1));
  const [head, rest] = [piece(HTTP2_BEGIN, 30), piece(0, 20)];
  parked.add('one', head, 0);
  parked.add('two', piece(HTTP2_BEGIN, 5), 0);
  parked.add('one', rest, 0);
  head.bytes.fill(0);
  const pieces = parked.take('one');
  assert.deepEqual(
    pieces.map(({ flags, bytes }) => [flags, bytes.length, bytes[0]]),
    [
      [HTTP2_BEGIN, 30, 7],
      [0, 20, 7],
    ],
  );
  assert.deepEqual([parked.take('one'), parked.connections, unclaimed], [[], 1, 0]);
});

test('a new begin makes what its ends had before void, and a minute too; that is counted', () => {
  let unclaimed = 0;
  const parked = new Parked(() => (unclaimed += 1));
  parked.add('one', piece(HTTP2_BEGIN, 30), 1000);
  parked.add('one', piece(HTTP2_BEGIN, 40), 2000);
  assert.equal(unclaimed, 1);
  parked.add('two', piece(HTTP2_RAW | HTTP2_HOLE, 40), 3000);
  parked.tick(61_999);
  assert.equal(parked.connections, 2);
  parked.tick(63_000);
  // Of the second nothing says that it was HTTP/2.
  assert.deepEqual([parked.connections, parked.bytes, unclaimed], [0, 0, 2]);
});

test('whoever sends what belongs to nothing takes no more memory than there is for all', () => {
  let unclaimed = 0;
  const parked = new Parked(() => (unclaimed += 1));
  for (let n = 0; n < 3000; n += 1) parked.add(`${n}`, piece(HTTP2_BEGIN, 8192), n);
  assert.ok(parked.bytes <= 8 << 20 && parked.connections > 900, `${parked.bytes}`);
  assert.equal(unclaimed + parked.connections, 3000);
  for (let n = 0; n < 3000; n += 1) parked.add('one', piece(HTTP2_RAW | HTTP2_HOLE, 8192), n);
  assert.ok(parked.bytes <= 8 << 20);
  assert.ok(parked.connections <= 1);
});
