// Golden bytes of the cgroup maps → rows. Each byte differs from its neighbours.

import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { cgroup_name, cgroup_traffic } from '../layout.gen.ts';
import { entriesOf, testContext, u64Bytes } from '../map_testing.ts';
import { cgroupGone, cgroupMade, cgroupRest, cgroupTraffic, rowsOf } from './decode.ts';
import { cgroup_packets } from './table.ts';

const SEED = 20_260_127;
const ID = '3f4e1c2b5a69788796a5b4c3d2e1f00112233445566778899aabbccddeeff001';
const POD = '8b1c9d2e-0f3a-4b5c-8d7e-6f9a0b1c2d3e';
const PATH = `/kubepods/burstable/pod${POD}/${ID}`;

/** In the order of the struct: packets, bytes, joined, each by slot. */
const GOLDEN = [
  ...[0x0001_0203_0405_0607n, 0x0002_0304_0506_0708n, 0x0003_0405_0607_0809n, 0n],
  ...[0x0004_0506_0708_090an, 0x0005_0607_0809_0a0bn, 0x0006_0708_090a_0b0cn, 0x7n],
  ...[0x11n, 0x22n, 0x33n, 0x44n],
];

function traffic(id: bigint, counts: readonly bigint[]) {
  return entriesOf(8, cgroup_traffic.SIZE, [[u64Bytes(id), u64Bytes(...counts)]]);
}

function made(id: bigint, path: string) {
  const name = new Uint8Array(cgroup_name.SIZE);
  name.set(Buffer.from(path));
  return entriesOf(8, cgroup_name.SIZE, [[u64Bytes(id), name]]);
}

test('golden bytes become a row for each direction and family', () => {
  const context = testContext();
  cgroupMade.open(context).rows(made(0x0001_2345_6789_abcdn, PATH), 0);
  cgroupTraffic.open(context).rows(traffic(0x0001_2345_6789_abcdn, GOLDEN), 0);
  const who = { cgroup_id: 0x0001_2345_6789_abcd, cgroup_path: PATH };
  const what = { ...who, container_id: ID, k8s_pod_uid: POD };
  assert.deepEqual(context.rows(cgroup_packets), [
    {
      ...{ direction: 'ingress', family: 'IPv4', ...what },
      ...{ packets: 0x0001_0203_0405_0607, bytes: 0x0004_0506_0708_090a },
      segments: 0x0001_0203_0405_0607 + 0x11,
    },
    {
      ...{ direction: 'ingress', family: 'IPv6', ...what },
      ...{ packets: 0x0002_0304_0506_0708, bytes: 0x0005_0607_0809_0a0b },
      segments: 0x0002_0304_0506_0708 + 0x22,
    },
    {
      ...{ direction: 'egress', family: 'IPv4', ...what },
      ...{ packets: 0x0003_0405_0607_0809, bytes: 0x0006_0708_090a_0b0c },
      segments: 0x0003_0405_0607_0809 + 0x33,
    },
  ]);
  assert.deepEqual(context.said, []);
});

test('a cgroup that was there before is found in the tree, or noted', () => {
  const place = { path: '/system.slice/x.service', container_id: '' };
  const context = testContext({ cgroup: (id) => (id === 7 ? place : undefined) });
  const decoder = cgroupTraffic.open(context);
  decoder.rows(traffic(7n, [1n, 0n, 0n, 0n, 60n, 0n, 0n, 0n, 0n, 0n, 0n, 0n]), 0);
  decoder.rows(traffic(8n, [0n, 0n, 0n, 2n, 0n, 0n, 0n, 80n, 0n, 0n, 0n, 0n]), 0);
  const none = { container_id: '', k8s_pod_uid: '' };
  assert.deepEqual(context.rows(cgroup_packets), [
    {
      ...{ direction: 'ingress', family: 'IPv4', cgroup_id: 7, cgroup_path: place.path, ...none },
      ...{ packets: 1, bytes: 60, segments: 1 },
    },
    {
      ...{ direction: 'egress', family: 'IPv6', cgroup_id: 8, cgroup_path: '', ...none },
      ...{ packets: 2, bytes: 80, segments: 2 },
    },
  ]);
  assert.deepEqual(context.said, ['cgroup_path_unknown 1']);
});

test('cgroups that found no room are one', () => {
  const context = testContext();
  const counts = [0n, 0n, 5n, 0n, 0n, 0n, 500n, 0n, 0n, 0n, 1n, 0n];
  const rest = entriesOf(4, cgroup_traffic.SIZE, [[new Uint8Array(4), u64Bytes(...counts)]]);
  cgroupRest.open(context).rows(rest, 0);
  const other = { cgroup_path: '<other>', container_id: '<other>', k8s_pod_uid: '<other>' };
  assert.deepEqual(context.rows(cgroup_packets), [
    {
      ...{ direction: 'egress', family: 'IPv4', cgroup_id: 0, ...other },
      ...{ packets: 5, bytes: 500, segments: 6 },
    },
  ]);
});

test('a name stays until the interval after its cgroup has gone', () => {
  const context = testContext();
  const [names, counts, gone] = [cgroupMade, cgroupTraffic, cgroupGone].map((s) => s.open(context));
  const one = [1n, 0n, 0n, 0n, 9n, 0n, 0n, 0n, 0n, 0n, 0n, 0n];
  names?.rows(made(5n, '/a'), 0);
  counts?.rows(traffic(5n, one), 0);
  gone?.rows(entriesOf(8, 1, [[u64Bytes(5n), Uint8Array.of(1)]]), 0);
  counts?.rows(traffic(5n, one), 0);
  const rows = context.rows(cgroup_packets);
  assert.deepEqual([rows.length, rows[0]?.packets, rows[0]?.cgroup_path], [1, 2, '/a']);
  assert.equal(rowsOf(context).names, 0);
});

test('names have a limit', () => {
  const context = testContext();
  const names = cgroupMade.open(context);
  for (let id = 1n; id <= 16_400n; id += 1n) names.rows(made(id, '/x'), 0);
  assert.equal(rowsOf(context).names, 16_384);
});

test(`any bytes are read without a throw, seed ${SEED}`, () => {
  const key = fc.uint8Array({ minLength: 8, maxLength: 8 });
  const size = cgroup_traffic.SIZE;
  const value = fc.uint8Array({ minLength: size, maxLength: size });
  const name = fc.uint8Array({ minLength: cgroup_name.SIZE, maxLength: cgroup_name.SIZE });
  fc.assert(
    fc.property(fc.array(fc.tuple(key, value, name), { maxLength: 20 }), (triples) => {
      const context = testContext();
      const named = entriesOf(
        8,
        cgroup_name.SIZE,
        triples.map(([k, , n]) => [k, n]),
      );
      cgroupMade.open(context).rows(named, 0);
      const counted = entriesOf(
        8,
        size,
        triples.map(([k, v]) => [k, v]),
      );
      cgroupTraffic.open(context).rows(counted, 0);
      for (const { packets, segments } of context.rows(cgroup_packets)) {
        assert.ok(Number(packets) >= 0 && Number(segments) >= 0);
      }
    }),
    { seed: SEED, numRuns: 300 },
  );
});
