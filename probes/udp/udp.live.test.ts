// Datagrams between two programs, by every call that there is: what sonde says equals what the programs counted, and
// belongs to the process that did it.

import assert from 'node:assert/strict';
import test from 'node:test';
import { type FlowRow, type Live, NO_LIVE, settles, sorted, startLive } from '../../test/live.ts';
import {
  type Cleanup,
  type Counts,
  haveIp,
  makeNamespaces,
  Traffic,
  talk,
  type Words,
} from '../../test/traffic/traffic.ts';

const CALLS = ['read', 'recv', 'recvfrom', 'recvmsg', 'recvmmsg'] as const;

interface Talk {
  readonly server: readonly Counts[];
  readonly client: readonly Counts[];
  readonly port: number;
}

function expected({ server, client, port }: Talk): readonly FlowRow[] {
  const view = (side: object, counts: Counts) => ({
    ...side,
    pid: counts.pid,
    process_name: 'traffic',
    packets_read: counts.datagrams_read,
    packets_written: counts.datagrams_written,
    bytes_read: counts.bytes_read,
    bytes_written: counts.bytes_written,
  });
  return sorted([
    view({ direction: 'incoming', src_port: port, dst_port: 0 }, server[0]!),
    view({ direction: 'outgoing', src_port: 0, dst_port: port }, client[0]!),
  ]);
}

async function exact(live: Live, done: Talk): Promise<void> {
  assert.ok(done.client[0]!.datagrams_written > 0);
  await settles(
    () => live.collector.flush(),
    () => live.sink.views('udp', done.port),
    expected(done),
  );
}

test('datagrams', { skip: NO_LIVE }, async (t) => {
  const live = await startLive(t);
  const check = async (t: Cleanup, both: Words, server: Words = {}, client: Words = {}) => {
    const words = { datagrams: 1000, reply: 1, ...both };
    const done = await talk(t, 'udp', { ...words, ...server }, { ...words, ...client });
    await exact(live, done);
    return done;
  };
  for (const call of CALLS) {
    await t.test(`by ${call} on connected sockets, peeked at first`, async (t) => {
      await check(t, { call, connected: 1 }, { peek: 1 });
    });
  }
  for (const call of ['recvfrom', 'recvmsg'] as const) {
    await t.test(`by ${call} on unconnected sockets`, async (t) => {
      await check(t, { call });
    });
  }
  await t.test('by recvmmsg, most of them without asking who sent', async (t) => {
    await check(t, { call: 'recvmmsg', reply: 0 });
  });
  await t.test('read by a server that never asks who sent', async (t) => {
    await check(t, { reply: 0 }, { call: 'read' });
  });
  await t.test('without a byte', async (t) => {
    const done = await check(t, { size: 0 });
    assert.deepEqual([done.server[0]!.datagrams_read, done.server[0]!.bytes_read], [1000, 0]);
  });
  await t.test('of the largest size', async (t) => {
    await check(t, { size: 65_507, datagrams: 50, batch: 1 });
  });
  await t.test('from 300 sockets', async (t) => {
    await check(t, { datagrams: 3000 }, {}, { sockets: 300, datagrams: 10 });
  });
  for (const [server, client, family, ip] of [
    ['::1', '::1', 'IPv6', '::1'],
    ['::', '127.0.0.1', 'IPv4', '127.0.0.1'],
  ] as const) {
    await t.test(`from ${client} to a server at ${server}: ${family}`, async (t) => {
      const { port } = await check(t, {}, { host: server }, { host: client });
      for (const row of live.sink.rows({ transport: 'udp', src_port: port })) {
        assert.deepEqual([row.family, row.dst_ip], [family, ip]);
      }
    });
  }
  await t.test('to a group', async (t) => {
    const group = '239.1.2.3';
    const server = { host: '0.0.0.0', group };
    const { port } = await check(t, { reply: 0 }, server, { host: group, multicast: 1 });
    const [row] = live.sink.rows({ transport: 'udp', dst_port: port });
    assert.deepEqual([row?.dst_ip, row?.dst_ip_type], [group, 'multicast']);
  });
  await t.test('more than the receive buffer holds', (t) => overruns(t, live));
  await t.test('between network namespaces', { skip: !haveIp() && 'needs ip' }, async (t) => {
    const wire = makeNamespaces(`udp-${process.pid}`);
    t.after(() => wire.remove());
    const words = { datagrams: 1000, reply: 1, host: wire.addresses[1] };
    const places = { server: wire.names[1], client: wire.names[0] };
    await exact(live, await talk(t, 'udp', words, words, places));
  });
});

/** What was dropped was sent, and never received. */
async function overruns(t: Cleanup, live: Live): Promise<void> {
  const server = await Traffic.start(t, 'udp-server', { buffer: 4096, drain: 1 });
  const port = await server.port();
  const client = await Traffic.start(t, 'udp-client', { port, datagrams: 2000, size: 200 });
  const [sent] = await client.counts();
  server.say();
  const [received] = await server.counts();
  assert.ok(received!.datagrams_read < 2000, 'nothing was dropped: the test shows nothing');
  await exact(live, { server: [received!], client: [sent!], port });
}

test('reports in the middle of a flow add up', { skip: NO_LIVE }, async (t) => {
  const live = await startLive(t);
  const words = { datagrams: 20_000, reply: 1, call: 'recvfrom' };
  const server = await Traffic.start(t, 'udp-server', words);
  const port = await server.port();
  const client = await Traffic.start(t, 'udp-client', { ...words, port });
  let going = true;
  const both = Promise.all([server.counts(), client.counts()]).finally(() => {
    going = false;
  });
  while (going) await live.collector.flush();
  const [served, called] = await both;
  await exact(live, { server: served, client: called, port });
  assert.deepEqual(live.collector.ledger.imbalance(), []);
});

const ATTEMPTS_MAX = 5;
const UDP_SUMS = ['packets_read', 'packets_written', 'bytes_read', 'bytes_written'] as const;

/** False: more was counted, perhaps since datagrams of others came into the same overflow rows. */
async function overflowsExactly(t: Cleanup): Promise<boolean> {
  const maps = { sockets_max: 64, processes_max: 16_384 };
  const { sink, collector } = await startLive(t, { collector: { maps } });
  const both = { datagrams: 3000, reply: 1 };
  const { port } = await talk(t, 'udp', both, { ...both, sockets: 300, datagrams: 10 });
  const sums = (): readonly number[] => {
    const all = [
      sink.total({ transport: 'udp', src_port: port }, UDP_SUMS),
      sink.total({ transport: 'udp', dst_port: port }, UDP_SUMS),
      sink.total({ transport: 'udp', family: '<other>' }, UDP_SUMS),
    ];
    return UDP_SUMS.map((name) => all.reduce((sum, one) => sum + one[name]!, 0));
  };
  const expected = [6000, 6000, 600_000, 600_000];
  const less = (): unknown => sums().filter((sum, i) => sum < expected[i]!);
  await settles(() => collector.flush(), less, []);
  assert.deepEqual(collector.ledger.imbalance(), []);
  const full = collector.ledger.rows().find(({ table }) => table === 'udp_map_full');
  assert.ok((full?.count ?? 0) > 0, 'the map was never full: the test shows nothing');
  return sums().every((sum, i) => sum === expected[i]);
}

test('more flows than the map holds', { skip: NO_LIVE }, async (t) => {
  for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt += 1) {
    if (await overflowsExactly(t)) return;
  }
  assert.fail(`${ATTEMPTS_MAX} times more was counted than there was`);
});
