// Texts and kinds of addresses, held against what Node itself makes of them.

import assert from 'node:assert/strict';
import { BlockList } from 'node:net';
import test from 'node:test';
import fc from 'fast-check';
import { ipv4Text, ipv4Type, ipv6Text, ipv6Type } from './address.ts';

const SEED = 20_260_118;
const RUNS = { seed: SEED, numRuns: 2000 };

/** Where in the bytes the address begins: not at their beginning. */
const AT = 3;

function placed(address: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(AT + address.length + 2).fill(0xee);
  bytes.set(address, AT);
  return bytes;
}

/** Few values, so that runs of zeros of every length and place come up. */
const sparse = fc
  .array(fc.constantFrom(0, 0, 0, 1, 0x10, 0xab, 0xff), { minLength: 16, maxLength: 16 })
  .map((bytes) => Uint8Array.from(bytes));
const any16 = fc.uint8Array({ minLength: 16, maxLength: 16 });

function urlText(address: Uint8Array): string {
  const groups = Array.from({ length: 8 }, (_, i) =>
    ((address[2 * i]! << 8) | address[2 * i + 1]!).toString(16).padStart(4, '0'),
  );
  return new URL(`http://[${groups.join(':')}]/`).hostname.slice(1, -1);
}

test(`IPv6 texts are those of URLs, seed ${SEED}`, () => {
  fc.assert(
    fc.property(fc.oneof(sparse, any16), (address) => {
      assert.equal(ipv6Text(placed(address), AT), urlText(address));
    }),
    RUNS,
  );
});

test(`IPv4 texts are those of URLs, seed ${SEED}`, () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 4, maxLength: 4 }), (address) => {
      const number = new DataView(address.buffer, address.byteOffset).getUint32(0);
      const text = new URL(`http://${number}/`).hostname;
      assert.equal(ipv4Text(placed(address), AT), text);
    }),
    RUNS,
  );
});

test('texts that are easily wrong', () => {
  const hex = (text: string) => placed(Uint8Array.from(Buffer.from(text, 'hex')));
  assert.equal(ipv6Text(hex('20010db8000000000001000000000001'), AT), '2001:db8::1:0:0:1');
  assert.equal(ipv6Text(hex('20010db8000000010001000100010001'), AT), '2001:db8:0:1:1:1:1:1');
  assert.equal(ipv6Text(hex('00000000000000000000000000000000'), AT), '::');
  assert.equal(ipv6Text(hex('00010000000000000000000000000000'), AT), '1::');
  assert.equal(ipv6Text(hex('0000000000000000000000000000000a'), AT), '::a');
});

const NETS = {
  private: [
    ['10.0.0.0', 8],
    ['127.0.0.0', 8],
    ['172.16.0.0', 12],
    ['192.168.0.0', 16],
    ['169.254.0.0', 16],
    ['100.64.0.0', 10],
    ['fc00::', 7],
    ['fe80::', 10],
    ['::1', 128],
  ],
  multicast: [
    ['224.0.0.0', 4],
    ['ff00::', 8],
  ],
} as const;

function blockList(nets: readonly (readonly [string, number])[]): BlockList {
  const list = new BlockList();
  for (const [net, bits] of nets) list.addSubnet(net, bits, net.includes(':') ? 'ipv6' : 'ipv4');
  return list;
}

const PRIVATE = blockList(NETS.private);
const MULTICAST = blockList(NETS.multicast);

function kind(text: string, family: 'ipv4' | 'ipv6'): string {
  if (MULTICAST.check(text, family)) return 'multicast';
  return PRIVATE.check(text, family) ? 'private' : 'other';
}

/** First bytes at and beside the borders of the networks above. */
const EDGES = [0, 9, 10, 11, 15, 16, 31, 32, 63, 64, 99, 100, 101, 126, 127, 128, 168, 169, 172];
const edge = fc.constantFrom(...EDGES, 191, 192, 193, 223, 224, 239, 240, 252, 253, 254, 255);

test(`kinds of addresses are those of the networks, seed ${SEED}`, () => {
  const four = fc.tuple(edge, edge, edge, edge).map((bytes) => Uint8Array.from(bytes));
  fc.assert(
    fc.property(four, (address) => {
      assert.equal(ipv4Type(placed(address), AT), kind(ipv4Text(address, 0), 'ipv4'));
    }),
    RUNS,
  );
  const first = fc.constantFrom(0, 0xfb, 0xfc, 0xfd, 0xfe, 0xff, 0x20);
  const second = fc.constantFrom(0, 1, 0x7f, 0x80, 0xbf, 0xc0, 0xff);
  // An IPv4-mapped address never comes here: the kernel side reports it as IPv4.
  const six = fc
    .tuple(first, second, sparse)
    .map(([a, b, rest]) => Uint8Array.from([a, b, ...rest.subarray(2)]))
    .filter((address) => !ipv6Text(address, 0).startsWith('::ffff:'));
  fc.assert(
    fc.property(six, (address) => {
      assert.equal(ipv6Type(placed(address), AT), kind(ipv6Text(address, 0), 'ipv6'));
    }),
    RUNS,
  );
  const one = Uint8Array.from({ length: 16 }, (_, i) => Number(i === 15));
  assert.equal(ipv6Type(one, 0), 'private');
});
