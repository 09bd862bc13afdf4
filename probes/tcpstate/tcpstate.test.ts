// Golden bytes of the maps of TCP states → rows. Each byte differs from its neighbours.

import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { conn, tcpstate_change, tcpstate_key } from '../layout.gen.ts';
import { entriesOf, testContext, u64Bytes } from '../map_testing.ts';
import { tcpChanges, tcpConnections, tcpConnectionsTable, tcpStateTable } from './tcpstate.ts';

const SEED = 20_260_128;
const OWNER = {
  process_name: 'nginx',
  process_executable_path: '/usr/sbin/nginx',
  cgroup_path: '/system.slice/nginx.service',
  container_id: 'c0ffee',
};

function change(netns: number, from: number, to: number, count: bigint, slots: readonly number[]) {
  const key = new Uint8Array(tcpstate_key.SIZE);
  const keys = new DataView(key.buffer);
  keys.setUint32(tcpstate_key.netns, netns, true);
  keys.setUint32(tcpstate_key.change, (0x0031_4253 << 8) | (from << 4) | to, true);
  const value = new Uint8Array(tcpstate_change.SIZE);
  const view = new DataView(value.buffer);
  value.set(u64Bytes(count), tcpstate_change.count);
  view.setUint32(tcpstate_change.owner_tgid, 0x0031_4253, true);
  view.setBigUint64(tcpstate_change.owner_start_ns, 0x0003_0405_0607_0809n, true);
  view.setBigUint64(tcpstate_change.owner_cgroup_id, 0x0004_0506_0708_090an, true);
  view.setBigUint64(tcpstate_change.lasted_sum, 0x0002_0304_0506_0708n, true);
  new Uint32Array(value.buffer, tcpstate_change.lasted_slots).set(slots);
  return [key, value] as const;
}

test('golden bytes become changes of state', () => {
  const asked: number[][] = [];
  const owner = (...who: number[]) => {
    asked.push(who);
    return OWNER;
  };
  const context = testContext({ owner });
  const pairs = [
    change(0xf102_0304, 2, 1, 0x0001_0203_0405_0607n, [1, 2]),
    change(7, 8, 9, 3n, []),
    change(7, 13, 15, 1n, []),
    change(7, 1, 7, 0n, []),
  ];
  tcpChanges.open(context).rows(entriesOf(tcpstate_key.SIZE, tcpstate_change.SIZE, pairs), 0);
  const rows = context.rows(tcpStateTable);
  const seen = rows.map((row) => [row.netns, row.old_state, row.new_state, row.transitions]);
  assert.deepEqual(seen, [
    [0xf102_0304, 'SYN-SENT', 'ESTABLISHED', 0x0001_0203_0405_0607],
    [7, 'CLOSE-WAIT', 'LAST-ACK', 3],
    [7, 'BOUND', '<other>', 1],
  ]);
  assert.deepEqual(asked[0], [0x0031_4253, 0x0003_0405_0607_0809, 0x0004_0506_0708_090a]);
  assert.deepEqual([rows[0]?.pid, rows[0]?.process_name], [0x0031_4253, 'nginx']);
  assert.equal(rows[0]?.lasted, 0x0002_0304_0506_0708);
});

function connection(tgid: number, state: number): readonly [Uint8Array, Uint8Array] {
  const value = new Uint8Array(conn.SIZE);
  const view = new DataView(value.buffer);
  view.setUint32(conn.owner_tgid, tgid, true);
  view.setBigUint64(conn.owner_start_ns, 0x0003_0405_0607_0809n, true);
  view.setBigUint64(conn.owner_cgroup_id, 0x0004_0506_0708_090an, true);
  view.setUint32(conn.tcp_state, state, true);
  return [u64Bytes(BigInt(tgid)), value];
}

test('connections are counted by process and state, and said to be gone once', () => {
  const asked: number[][] = [];
  const owner = (...who: number[]) => {
    asked.push(who);
    return OWNER;
  };
  const context = testContext({ owner });
  const decoder = tcpConnections.open(context);
  const rows = (pairs: readonly (readonly [Uint8Array, Uint8Array])[]) => {
    decoder.rows(entriesOf(8, conn.SIZE, pairs), 0);
    return context
      .rows(tcpConnectionsTable)
      .map((row) => [row.pid, row.process_name, row.state, row.connections]);
  };
  const first = [connection(41, 1), connection(41, 1), connection(41, 8), connection(42, 1)];
  assert.deepEqual(rows([...first, connection(43, 0), connection(44, 16)]), [
    [41, 'nginx', 'ESTABLISHED', 2],
    [41, 'nginx', 'CLOSE-WAIT', 1],
    [42, 'nginx', 'ESTABLISHED', 1],
  ]);
  assert.deepEqual(asked[0], [41, 0x0003_0405_0607_0809, 0x0004_0506_0708_090a]);
  assert.deepEqual(rows([connection(42, 1)]), [
    [41, 'nginx', 'ESTABLISHED', 0],
    [41, 'nginx', 'CLOSE-WAIT', 0],
    [42, 'nginx', 'ESTABLISHED', 1],
  ]);
  assert.deepEqual(rows([]), [[42, 'nginx', 'ESTABLISHED', 0]]);
  assert.deepEqual(rows([]), []);
});

test(`any bytes are read without a throw, seed ${SEED}`, () => {
  const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
  const change = fc.tuple(bytes(tcpstate_key.SIZE), bytes(tcpstate_change.SIZE));
  const open = fc.tuple(bytes(8), bytes(conn.SIZE));
  fc.assert(
    fc.property(fc.array(change), fc.array(open), (changes, connections) => {
      const context = testContext();
      tcpChanges.open(context).rows(entriesOf(tcpstate_key.SIZE, tcpstate_change.SIZE, changes), 0);
      tcpConnections.open(context).rows(entriesOf(8, conn.SIZE, connections), 0);
      for (const row of context.rows(tcpStateTable)) assert.ok(Number(row.transitions) >= 0);
      for (const row of context.rows(tcpConnectionsTable)) assert.ok(Number(row.connections) > 0);
    }),
    { seed: SEED, numRuns: 200 },
  );
});
