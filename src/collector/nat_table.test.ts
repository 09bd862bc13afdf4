import assert from 'node:assert/strict';
import test from 'node:test';
import { Ledger } from '../table/ledger.ts';
import { NatTable } from './nat_table.ts';

const TCP = 6;
const NETNS = 4026531840;

/** 10.0.0.1:`port` asks 10.96.0.10:80. */
function ends(port: number): Buffer {
  const bytes = Buffer.alloc(36);
  bytes.set([10, 0, 0, 1], 0);
  bytes.set([10, 96, 0, 10], 16);
  bytes.writeUInt16LE(port, 32);
  bytes.writeUInt16LE(80, 34);
  return bytes;
}

function peer(last: number): Buffer {
  const bytes = Buffer.alloc(18);
  bytes.set([10, 1, 1, last], 0);
  return bytes;
}

function table() {
  const services: string[] = [];
  const ledger = new Ledger();
  const service = (key: Uint8Array) => services.push(Buffer.from(key).toString('hex'));
  return { nat: new NatTable({ ledger, service }), services, ledger };
}

test('a namespace has its own translations, connection tracking speaks for all', () => {
  const { nat } = table();
  nat.learn(TCP, NETNS, ends(1000), peer(1));
  nat.learnTracked(TCP, ends(2000), peer(2));
  assert.equal(nat.size, 2);
  assert.deepEqual(nat.find(TCP, NETNS, ends(1000), 0, false), peer(1));
  assert.equal(nat.find(TCP, NETNS + 1, ends(1000), 0, false), undefined);
  assert.deepEqual(nat.find(TCP, NETNS + 1, ends(2000), 0, false), peer(2));
  assert.equal(nat.find(17, NETNS, ends(2000), 0, false), undefined);
});

test('what has ended is known a while longer, for totals that come later', () => {
  const { nat } = table();
  nat.turn(0);
  nat.learnTracked(TCP, ends(1), peer(1));
  nat.learnTracked(TCP, ends(2), peer(2));
  nat.endTracked(TCP, ends(1));
  nat.find(TCP, NETNS, ends(2), 0, true);
  nat.turn(80_000);
  assert.equal(nat.size, 2);
  nat.learnTracked(TCP, ends(2), peer(3)); // the port has come again
  nat.turn(100_000);
  assert.equal(nat.find(TCP, NETNS, ends(1), 0, false), undefined);
  assert.deepEqual(nat.find(TCP, NETNS, ends(2), 0, false), peer(3));
});

test('a service is told to the kernel side once a while', () => {
  const { nat, services } = table();
  nat.turn(0);
  for (const port of [1, 2, 3]) nat.learnTracked(TCP, ends(port), peer(port));
  const key = `0a60000a${'00'.repeat(12)}5000${'00'.repeat(6)}`;
  assert.deepEqual(services, [key]);
  nat.turn(20_000);
  nat.learnTracked(TCP, ends(4), peer(4));
  assert.deepEqual(services, [key, key]);
});

test('beyond its size the ended go first; a live one that goes is counted', () => {
  const { nat, ledger } = table();
  const full = 65_536;
  const at = (i: number) => ends(i & 0xffff);
  for (let i = 0; i < full; i += 1) nat.learn(TCP, NETNS, at(i), peer(1));
  nat.find(TCP, NETNS, at(500), 0, true);
  nat.learn(TCP, NETNS + 1, at(1), peer(2));
  assert.equal(nat.find(TCP, NETNS, at(500), 0, false), undefined);
  assert.deepEqual(nat.find(TCP, NETNS, at(0), 0, false), peer(1));
  const dropped = () => JSON.stringify(ledger.rows());
  assert.doesNotMatch(dropped(), /table_full/);
  nat.learn(TCP, NETNS + 1, at(2), peer(2));
  assert.equal(nat.find(TCP, NETNS, at(0), 0, false), undefined);
  assert.match(dropped(), /table_full/);
  assert.equal(nat.size, full);
});
