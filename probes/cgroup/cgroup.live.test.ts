// Packets of cgroups against the counters of nftables, which sees the same packets in the same form; and cgroups that come
// and go faster than anybody can look at them.

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, rmdirSync, statSync } from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import test, { type TestContext } from 'node:test';
import { findMount } from '../../src/bpf/features.ts';
import { type Live, NO_LIVE, settles, startLive } from '../../test/live.ts';
import { haveIp, makeNamespaces, Traffic, type Words } from '../../test/traffic/traffic.ts';

const has_nft = spawnSync('nft', ['--version']).status === 0;
const NO_NFT = NO_LIVE || (!haveIp() && 'needs ip') || (!has_nft && 'needs nft (nftables)');
const TABLE = 'cgroup_packets';
const MEASURES = ['packets', 'bytes'] as const;
const POD = '8b1c9d2e-0f3a-4b5c-8d7e-6f9a0b1c2d3e';
const IDS = ['ab'.repeat(32), 'cd'.repeat(32)] as const;
const IPV6 = ['fd00:50de::1', 'fd00:50de::2'] as const;

interface Cgroup {
  /** Folder in the file system. */
  readonly folder: string;
  /** From the root of the hierarchy. */
  readonly path: string;
  readonly id: number;
}

let made = 0;

/** A cgroup below the root, and one in it for each name, removed with the test. */
function makeCgroups(t: TestContext, names: readonly string[]): readonly Cgroup[] {
  const root = findMount('cgroup2')!;
  made += 1;
  const top = `sonde-test-${process.pid}-${made}`;
  const folders = [top, ...names.map((name) => join(top, name))];
  for (const name of folders) mkdirSync(join(root, name), { recursive: true });
  t.after(() => removeTree(join(root, top)));
  return folders.map((name) => {
    const folder = join(root, name);
    return { folder, path: `/${name}`, id: statSync(folder).ino };
  });
}

function removeTree(folder: string): void {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    if (entry.isDirectory()) removeTree(join(folder, entry.name));
  }
  rmdirSync(folder);
}

const RULES = `table inet sonde {
  counter v4in { }
  counter v6in { }
  counter v4out { }
  counter v6out { }
  counter v6accepted { }
  chain in {
    type filter hook input priority 0
    meta l4proto { tcp, udp } meta nfproto ipv4 counter name v4in
    meta l4proto { tcp, udp } meta nfproto ipv6 counter name v6in
  }
  chain out {
    type filter hook output priority 0
    meta l4proto { tcp, udp } meta nfproto ipv4 counter name v4out
    meta l4proto { tcp, udp } meta nfproto ipv6 counter name v6out
    meta nfproto ipv6 tcp flags & (syn | ack) == syn | ack counter name v6accepted
  }
}`;

type Counters = Readonly<Record<string, Readonly<Record<string, number>>>>;

interface Counter {
  readonly name: string;
  packets: number;
  bytes: number;
}

function inNetns(name: string, ...words: string[]): string {
  return execFileSync('ip', ['netns', 'exec', name, ...words], { encoding: 'utf8' });
}

/**
 * 6.1 shows a SYN/ACK by IPv6 to no program, 6.18 does. Where between them that changed is not measured: 6.5 by what the kernel's
 * own history says of the check for a full socket.
 */
const SHOWS_ACCEPTED = Number(release().split('.')[0]) > 6 || /^6\.([5-9]|\d\d)\./.test(release());

/** What nftables counted in a network namespace, by direction and family, of what the kernel shows to programs. */
function nftCounters(netns: string): Counters {
  const counted: Record<string, Record<string, number>> = {};
  const { nftables } = JSON.parse(inNetns(netns, 'nft', '-j', 'list', 'counters'));
  const counters = nftables.flatMap(({ counter }: { counter?: Counter }) => counter ?? []);
  const accepted = counters.find(({ name }: Counter) => name === 'v6accepted');
  for (const counter of counters) {
    if (counter === accepted || counter.packets === 0) continue;
    if (counter.name === 'v6out' && !SHOWS_ACCEPTED) {
      counter.packets -= accepted.packets;
      counter.bytes -= accepted.bytes;
    }
    const direction = counter.name.endsWith('in') ? 'ingress' : 'egress';
    const family = counter.name.startsWith('v4') ? 'IPv4' : 'IPv6';
    counted[`${direction} ${family}`] = { packets: counter.packets, bytes: counter.bytes };
  }
  return counted;
}

/** What sonde counted for a cgroup, in the same form. */
function sondeCounters({ sink }: Live, cgroup_path: string): Counters {
  const counted: Record<string, Record<string, number>> = {};
  for (const direction of ['egress', 'ingress']) {
    for (const family of ['IPv4', 'IPv6']) {
      const sums = sink.total({ cgroup_path, direction, family }, MEASURES, TABLE);
      if (sums.packets !== 0) counted[`${direction} ${family}`] = sums;
    }
  }
  return counted;
}

function ofFamily(counters: Counters, family: string): Counters {
  return Object.fromEntries(Object.entries(counters).filter(([name]) => name.endsWith(family)));
}

interface Place {
  readonly netns: string;
  readonly cgroup: Cgroup;
}

function makePlaces(t: TestContext, cgroups: readonly Cgroup[]): readonly [Place, Place] {
  const wire = makeNamespaces(`cgroup-${process.pid}`);
  t.after(() => wire.remove());
  wire.names.forEach((name, i) => {
    execFileSync('ip', ['-n', name, 'addr', 'add', `${IPV6[i]}/64`, 'dev', `w${i}`, 'nodad']);
    execFileSync('ip', ['netns', 'exec', name, 'nft', '-f', '-'], { input: RULES });
  });
  const [a, b] = wire.names;
  return [
    { netns: a, cgroup: cgroups[0]! },
    { netns: b, cgroup: cgroups[1]! },
  ];
}

function placeOf({ netns, cgroup }: Place): { netns: string; cgroup: string } {
  return { netns, cgroup: cgroup.folder };
}

async function datagrams(
  t: TestContext,
  [here, there]: readonly [Place, Place],
  words: Words,
): Promise<void> {
  const server = await Traffic.start(t, 'udp-server', words, placeOf(there));
  const port = await server.port();
  const client = await Traffic.start(t, 'udp-client', { ...words, port }, placeOf(here));
  await Promise.all([client.counts(), server.counts()]);
}

/** Connections that are open still: what a closed one leaves to the kernel (TIME_WAIT) has no socket. */
async function connections(
  t: TestContext,
  [here, there]: readonly [Place, Place],
  words: Words,
): Promise<void> {
  const server = await Traffic.start(t, 'server', words, placeOf(there));
  const port = await server.port();
  const mine = { ...words, port, as: 'hold' };
  const client = await Traffic.start(t, 'client', mine, placeOf(here));
  await client.opened();
  await client.exchange();
}

test('packets and bytes of two cgroups, as nftables counts them', { skip: NO_NFT }, async (t) => {
  const pod = `kubepods/burstable/pod${POD}`;
  const cgroups = makeCgroups(t, [`${pod}/${IDS[0]}`, `${pod}/${IDS[1]}`]);
  const places = makePlaces(t, cgroups.slice(1));
  const live = await startLive(t, { collector: { probes: { cgroup: { enabled: true } } } });
  // A family is compared up to its connections: after their test they close, with packets that have no socket.
  const exact = async (family: string): Promise<void> => {
    const truth = places.map(({ netns }) => ofFamily(nftCounters(netns), family));
    await settles(
      () => live.collector.flush(),
      () => places.map(({ cgroup }) => ofFamily(sondeCounters(live, cgroup.path), family)),
      truth,
    );
  };
  for (const [family, host] of [
    ['IPv4', '10.199.77.2'],
    ['IPv6', IPV6[1]],
  ]) {
    await t.test(`datagrams by ${family}`, async (t) => {
      await datagrams(t, places, { host: host!, datagrams: 2000, reply: 1 });
      await exact(family!);
    });
    // nftables counts IPv6 fragments one by one, before the kernel puts them together
    const large = { host: host!, datagrams: 20, size: family === 'IPv4' ? 60_000 : 1200, batch: 1 };
    await t.test(`large datagrams by ${family}`, async (t) => {
      await datagrams(t, places, { ...large, reply: 1 });
      await exact(family!);
    });
    await t.test(`connections by ${family}`, async (t) => {
      await connections(t, places, { host: host!, connections: 20, response: 300_000 });
      await new Promise((done) => setTimeout(done, 300)); // acknowledgements that the kernel delays
      await exact(family!);
    });
  }
  for (const [i, { cgroup }] of places.entries()) {
    for (const row of live.sink.rows({ cgroup_path: cgroup.path }, TABLE)) {
      assert.deepEqual(
        [row.cgroup_id, row.container_id, row.k8s_pod_uid],
        [cgroup.id, IDS[i], POD],
      );
      assert.ok(Number(row.segments) >= Number(row.packets));
    }
  }
  assert.deepEqual(live.collector.ledger.imbalance(), []);
});

const MANY = 5000;

test('cgroups that come and go, each with its name and its packets', {
  skip: NO_LIVE,
}, async (t) => {
  const [top] = makeCgroups(t, []);
  const live = await startLive(t, { collector: { probes: { cgroup: { enabled: true } } } });
  const inbox = await Traffic.start(t, 'udp-server', { datagrams: 3 * MANY });
  const port = await inbox.port();
  const words = { count: MANY, datagrams: 3, root: top!.folder, port };
  const done = await (await Traffic.start(t, 'cgroups', words)).counts();
  assert.equal(done[0]!.datagrams_written, 3 * MANY);
  const rows = () =>
    live.sink
      .rows({ direction: 'egress' }, TABLE)
      .filter(({ cgroup_path }) => String(cgroup_path).startsWith(`${top!.path}/short-`));
  await settles(
    () => live.collector.flush(),
    () => rows().length,
    MANY,
  );
  for (const row of rows()) {
    assert.deepEqual([row.packets, row.bytes, row.family], [3, 3 * (20 + 8 + 6), 'IPv4']);
  }
  const named = new Set(rows().map(({ cgroup_path }) => cgroup_path));
  assert.equal(named.size, MANY, 'each by its own name');
  await live.collector.flush();
  for (const name of ['cgroup_made', 'cgroup_gone', 'cgroup_traffic_0', 'cgroup_rest_0']) {
    assert.ok(entries(live, name) < 50, `${name} has ${entries(live, name)} entries left`);
  }
  assert.deepEqual(live.collector.ledger.imbalance(), []);
});

function entries({ collector }: Live, name: string): number {
  const map = collector.kernel.map(name);
  const keys = new Uint8Array(map.keySize * map.maxEntries);
  return map.readAll(keys, new Uint8Array(map.valueStride * map.maxEntries));
}
