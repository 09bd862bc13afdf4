// Messages of connection tracking: one as the kernel writes it, and whatever else may come.

import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { readConntrack, type Translation } from './conntrack_message.ts';

const NEW = 0x100;
const DELETE = 0x102;
const DST_NAT = 0x20;

function attribute(type: number, value: Uint8Array): Buffer {
  const padded = (value.length + 3) & ~3;
  const bytes = Buffer.alloc(4 + padded);
  bytes.writeUInt16LE(4 + value.length, 0);
  bytes.writeUInt16LE(type, 2);
  bytes.set(value, 4);
  return bytes;
}

const NESTED = 0x8000;

function tuple(
  type: number,
  ends: readonly [number[], number[]],
  ports: readonly [number, number],
) {
  const first = ends[0].length === 4 ? 1 : 3;
  const addresses = ends.map((end, i) => attribute(first + i, Uint8Array.from(end)));
  const numbers = ports.map((port, i) => attribute(2 + i, Uint8Array.of(port >> 8, port & 255)));
  return attribute(
    type | NESTED,
    Buffer.concat([
      attribute(1 | NESTED, Buffer.concat(addresses)),
      attribute(2 | NESTED, Buffer.concat([attribute(1, Uint8Array.of(6)), ...numbers])),
    ]),
  );
}

function message(type: number, status: number, attributes: readonly Uint8Array[]): Buffer {
  const value = Buffer.alloc(4);
  value.writeUInt32BE(status);
  const body = Buffer.concat([Buffer.alloc(4), ...attributes, attribute(3, value)]);
  const header = Buffer.alloc(16);
  header.writeUInt32LE(header.length + body.length, 0);
  header.writeUInt16LE(type, 4);
  return Buffer.concat([header, body]);
}

const CLIENT = [10, 244, 1, 7];
const SERVICE = [10, 96, 0, 10];
const SERVER = [10, 244, 2, 9];
const BOTH = [
  tuple(1, [CLIENT, SERVICE], [40_000, 80]),
  tuple(2, [SERVER, CLIENT], [8080, 40_000]),
];

function all(datagram: Buffer): { readonly found: Translation[]; readonly outcome: string } {
  const found: Translation[] = [];
  const outcome = readConntrack(datagram, (one) => found.push(one));
  return { found, outcome };
}

test('a connection with destination NAT, as it begins and as it ends', () => {
  const both = [message(NEW, DST_NAT, BOTH), message(DELETE, DST_NAT, BOTH)];
  const { found, outcome } = all(Buffer.concat(both));
  assert.equal(outcome, 'more');
  assert.deepEqual(
    found.map(({ ended, transport }) => [ended, transport]),
    [
      [false, 6],
      [true, 6],
    ],
  );
  const { ends, nat } = found[0]!;
  assert.deepEqual([...ends.subarray(0, 4)], CLIENT);
  assert.deepEqual([...ends.subarray(16, 20)], SERVICE);
  assert.deepEqual([ends.readUInt16LE(32), ends.readUInt16LE(34)], [40_000, 80]);
  assert.deepEqual([[...nat.subarray(0, 4)], nat.readUInt16LE(16)], [SERVER, 8080]);
});

test('IPv6', () => {
  const six = (last: number) => [0xfd, ...Array.from({ length: 14 }, () => 0), last];
  const there = tuple(1, [six(1), six(2)], [50_000, 53]);
  const back = tuple(2, [six(3), six(1)], [5353, 50_000]);
  const { found } = all(message(NEW, DST_NAT, [there, back]));
  assert.deepEqual([...found[0]!.nat.subarray(0, 16)], six(3));
});

test('what is not translated, and what is not whole, is nothing', () => {
  assert.deepEqual(all(message(NEW, 0x10, BOTH)).found, []);
  assert.deepEqual(all(message(NEW, DST_NAT, BOTH.slice(0, 1))).found, []);
  const whole = message(NEW, DST_NAT, BOTH);
  for (let length = 0; length < whole.length; length += 1) {
    assert.deepEqual(all(whole.subarray(0, length)).found, []);
  }
});

test('the end of an answer, and an error, end the reading', () => {
  const done = message(3, 0, []);
  const { found, outcome } = all(Buffer.concat([message(NEW, DST_NAT, BOTH), done]));
  assert.deepEqual([found.length, outcome], [1, 'done']);
  assert.equal(all(message(2, 0, [])).outcome, 'done');
});

test('any bytes, and any change of a true message, are read to an end', () => {
  const whole = message(NEW, DST_NAT, BOTH);
  const places = fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { maxLength: 8 });
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), places, (bytes, changes) => {
      all(Buffer.from(bytes));
      const changed = Buffer.from(whole);
      for (const [at, byte] of changes) changed[at] = byte;
      for (const { ends, nat } of all(changed).found) {
        assert.deepEqual([ends.length, nat.length], [36, 18]);
      }
    }),
    { seed: 20_261_126, numRuns: 2000 },
  );
});
