// Text of /proc and golden bytes of the map → rows.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import test from 'node:test';
import fc from 'fast-check';
import type { Netns } from '../../src/table/probe.ts';
import { drop_key, drop_sums } from '../layout.gen.ts';
import { entriesOf, testContext, u64Bytes } from '../map_testing.ts';
import { measuresOf, networkMeasures, parseCounters } from './counters.ts';
import { NetworkPoller, networkDrops, networkDropsTable, networkTable } from './network.ts';

const SEED = 20_260_129;
const ID = 'c0ffee00'.repeat(8);
const POD = '8b1c9d2e-0f3a-4b5c-8d7e-6f9a0b1c2d3e';

const SNMP = `Ip: Forwarding DefaultTTL InReceives OutRequests
Ip: 1 64 1001 1002
Tcp: RtoAlgorithm MaxConn RetransSegs OutRsts
Tcp: 1 -1 11 12
Udp: InDatagrams NoPorts
Udp: 5 6
`;
const NETSTAT = `TcpExt: SyncookiesSent ListenOverflows ListenDrops
TcpExt: 21 22 23
IpExt: InOctets OutOctets
IpExt: 9007199254740991 9007199254740993
`;
const SNMP6 = 'Ip6InReceives                   \t100\nUdp6NoPorts\t7\n';

test('the text of /proc/net is read by name', () => {
  const counters = parseCounters(SNMP, NETSTAT, SNMP6);
  assert.equal(counters.get('Ip.InReceives'), 1001);
  assert.equal(counters.get('Tcp.MaxConn'), undefined, '-1 is no count');
  assert.equal(counters.get('IpExt.InOctets'), 9007199254740991);
  assert.equal(counters.get('IpExt.OutOctets'), undefined, 'beyond 2^53');
  const values = measuresOf(counters);
  const named = Object.fromEntries(networkMeasures.map(({ name }, i) => [name, values[i]]));
  assert.deepEqual(
    [named.packets_received, named.packets_sent, named.tcp_retransmits, named.tcp_resets_sent],
    [1101, 1002, 11, 12],
  );
  assert.deepEqual(
    [named.listen_overflows, named.listen_drops, named.udp_no_port, named.udp_receive_errors],
    [22, 23, 13, 0],
  );
});

test('this kernel has every counter that is asked for', {
  skip: !isLinux() && 'needs Linux',
}, () => {
  const texts = ['snmp', 'netstat'].map((name) => readFileSync(`/proc/self/net/${name}`, 'utf8'));
  const counters = parseCounters(...texts);
  for (const name of ['Ip.InReceives', 'Tcp.RetransSegs', 'TcpExt.ListenDrops', 'IpExt.InOctets']) {
    assert.ok(counters.has(name), name);
  }
});

function isLinux(): boolean {
  return process.platform === 'linux';
}

function netns(inode: number, retransmits: number): Netns {
  const text = `Tcp: RetransSegs\nTcp: ${retransmits}\n`;
  const path = `/kubepods/pod${POD}/${ID}`;
  return { inode, counters: [text, '', ''], path, container_id: ID };
}

test('what a namespace counted since the last look; one that is new, since its start', () => {
  const looks = [
    [netns(1, 100)],
    [netns(1, 105), netns(2, 7)],
    [netns(1, 105)],
    [netns(1, 3), netns(2, 9)],
  ];
  const context = testContext({ netns: () => looks.shift() ?? [] });
  const poller = new NetworkPoller(context);
  const rows = () => {
    poller.poll();
    return context.rows(networkTable).map((row) => [row.netns, row.tcp_retransmits]);
  };
  assert.deepEqual(rows(), [
    [1, 5],
    [2, 7],
  ]);
  assert.deepEqual(rows(), []);
  assert.deepEqual(rows(), [
    [1, 3],
    [2, 9],
  ]);
});

test('a namespace has the container and the pod of a process in it', () => {
  const looks = [netns(5, 1), netns(5, 2)];
  const context = testContext({ netns: () => looks.splice(0, 1) });
  new NetworkPoller(context).poll();
  const [row] = context.rows(networkTable);
  assert.deepEqual([row?.netns, row?.container_id, row?.k8s_pod_uid], [5, ID, POD]);
});

function drop(netns: number, reason: number, protocol: number, packets: bigint, bytes: bigint) {
  const key = new Uint8Array(drop_key.SIZE);
  const view = new DataView(key.buffer);
  view.setUint32(drop_key.netns, netns, true);
  view.setUint16(drop_key.reason, reason, true);
  view.setUint16(drop_key.protocol, protocol, true);
  return [key, u64Bytes(packets, bytes)] as const;
}

test('golden bytes become drops with the reason of this kernel', () => {
  const names = new Map([
    [2, 'SKB_DROP_REASON_NOT_SPECIFIED'],
    [0x0001_0304, 'SKB_DROP_REASON_ODD'],
  ]);
  const context = testContext({ kernelEnum: () => names });
  const pairs = [
    drop(0xf102_0304, 0x1304, 0x86dd, 0x0001_0203_0405_0607n, 0x0002_0304_0506_0708n),
    drop(0, 2, 0, 5n, 6n),
    drop(0, 0, 0x0800, 7n, 8n),
    drop(0, 3, 0x0806, 9n, 10n),
    drop(0, 0x3009, 0x8847, 11n, 12n),
    drop(0, 0xffff, 0x0800, 13n, 14n),
    drop(0, 4, 0x0800, 0n, 0n),
  ];
  networkDrops.open(context).rows(entriesOf(drop_key.SIZE, drop_sums.SIZE, pairs), 0);
  const rows = context.rows(networkDropsTable);
  const seen = rows.map((row) => [row.netns, row.reason, row.protocol, row.packets, row.bytes]);
  assert.deepEqual(seen, [
    [0xf102_0304, 'ODD', 'IPv6', 0x0001_0203_0405_0607, 0x0002_0304_0506_0708],
    [0, 'NOT_SPECIFIED', '', 5, 6],
    [0, '', 'IPv4', 7, 8],
    [0, 'reason 3', 'ARP', 9, 10],
    [0, 'subsystem 3: 9', '0x8847', 11, 12],
    [0, '<other>', 'IPv4', 13, 14],
  ]);
});

test(`any text and any bytes are read without a throw, seed ${SEED}`, () => {
  const piece = fc.constantFrom('Tcp:', ' ', '\n', 'RetransSegs', '7', '-1', '1e99', '\0', 'x');
  const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
  const entry = fc.tuple(bytes(drop_key.SIZE), bytes(drop_sums.SIZE));
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 40 }), fc.array(entry), (pieces, entries) => {
      for (const value of measuresOf(parseCounters(pieces.join('')))) assert.ok(value >= 0);
      const context = testContext();
      networkDrops.open(context).rows(entriesOf(drop_key.SIZE, drop_sums.SIZE, entries), 0);
      for (const row of context.rows(networkDropsTable)) assert.ok(Number(row.packets) >= 0);
    }),
    { seed: SEED, numRuns: 500 },
  );
});
