import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { http2_flag } from '../layout.gen.ts';
import { Order, type Piece } from './order.ts';

const SEED = { seed: 20260801, numRuns: 1000 };
const START = 0xffff_fff0; // sequence numbers wrap

/** Bytes of the stream `0 1 2 …`, as they are. */
function raw(from: number, to: number): Piece {
  const bytes = Uint8Array.from({ length: to - from }, (_, i) => (from + i) & 0xff);
  const flags = http2_flag.HTTP2_RAW | http2_flag.HTTP2_HOLE;
  return { flags, from: (START + from) >>> 0, to: (START + to) >>> 0, skip: 0, now_ns: 0, bytes };
}

/** The begin of a direction: nothing is to come before it. */
const first = (from: number, to: number): Piece => ({ ...raw(from, to), flags: 0 });

test('bytes that come before the begin of a direction wait for it', () => {
  const seen: string[] = [];
  const order = new Order(({ from }, follows) => seen.push(`${(from - START) >>> 0} ${follows}`));
  for (const piece of [raw(20, 30), raw(10, 20), first(0, 10), first(30, 40)]) order.add(piece);
  assert.deepEqual(seen, ['0 true', '10 true', '20 true', '30 true']);
});

test('pieces in any order, also twice and overlapping, come out as the stream', () => {
  const cut = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 30 });
  fc.assert(
    fc.property(cut, fc.infiniteStream(fc.nat(1000)), (sizes, random) => {
      let at = 1;
      const pieces = sizes.map((size) => {
        const piece = raw(Math.max(1, at - (size % 3)), at + size);
        at += size;
        return piece;
      });
      const shuffled = [...pieces, ...pieces.slice(0, 5)]
        .map((piece) => ({ piece, key: random.next().value }))
        .sort((a, b) => a.key - b.key)
        .map(({ piece }) => piece);
      const out: number[] = [];
      const order = new Order(({ bytes }, follows) => {
        assert.ok(follows);
        out.push(...bytes);
      });
      order.add(first(0, 1));
      for (const piece of shuffled) order.add(piece);
      assert.deepEqual(out, [...raw(0, at).bytes]);
      assert.equal(order.waiting, 0);
    }),
    SEED,
  );
});

test('what never comes is given up, and said', () => {
  const seen: string[] = [];
  const order = new Order(({ from }, follows) => seen.push(`${(from - START) >>> 0} ${follows}`));
  for (const piece of [first(0, 10), raw(30, 40), raw(20, 30)]) order.add(piece);
  assert.deepEqual([seen, order.waiting, order.reordered], [['0 true'], 2, 2]);
  order.giveUp();
  assert.deepEqual([seen, order.waiting], [['0 true', '20 false', '30 true'], 0]);
});

test('a record that nothing announces as late means that one before it is missing', () => {
  const seen: boolean[] = [];
  const order = new Order((_, follows) => seen.push(follows));
  order.add(first(0, 10));
  order.add({ ...raw(20, 30), flags: 0 });
  assert.deepEqual(seen, [true, false]);
});

test('a digest that begins within bytes as they are tells of what is behind them, if of anything', () => {
  const seen: string[] = [];
  const order = new Order(({ from, to, bytes }, follows) =>
    seen.push(`${(from - START) >>> 0}-${(to - START) >>> 0} ${bytes.length} ${follows}`),
  );
  const digest = (from: number, to: number, bytes: number): Piece => ({
    ...raw(from, to),
    flags: 0,
    bytes: new Uint8Array(bytes),
  });
  order.add(digest(0, 10, 9));
  order.add(raw(10, 20)); // in time, though the kernel side did not count it
  order.add(digest(10, 10, 0)); // so it says where it is,
  order.add(digest(20, 50, 9)); // and goes on behind it;
  order.add(raw(50, 60)); // or the payload goes on beyond it
  order.add(digest(50, 90, 9));
  order.add(digest(80, 95, 9)); // of what a digest told there is no second one
  const told = ['0-10 9 true', '10-20 10 true', '20-50 9 true', '50-60 10 true', '60-90 9 true'];
  assert.deepEqual(seen, [...told, '80-95 9 false']);
});
