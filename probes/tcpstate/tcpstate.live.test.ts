// Changes of state against the test's own count of connections, and connections of each process against `ss`.

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { statSync } from 'node:fs';
import test from 'node:test';
import { type Live, NO_LIVE, settles, startLive } from '../../test/live.ts';
import { haveIp, makeNamespaces, Traffic, talk } from '../../test/traffic/traffic.ts';

const NO_WIRE = NO_LIVE || (!haveIp() && 'needs ip');
const has_ss = spawnSync('ss', ['-V']).status === 0;
const MANY = 2000;
const ON = { collector: { probes: { tcpstate: { enabled: true } } } };

function netnsInode(name: string): number {
  return statSync(`/run/netns/${name}`).ino;
}

/** Transitions within a network namespace by process (`a`, `b`), and of how many the time is known. */
function changes(
  { sink }: Live,
  netns: number,
  pids: Readonly<Record<string, number>>,
): Readonly<Record<string, readonly number[]>> {
  const letter = (pid: unknown) => Object.entries(pids).find(([, one]) => one === pid)?.[0] ?? pid;
  const counted = sink
    .rows({ netns }, 'tcp_state')
    .map((row) => [
      `${letter(row.pid)} ${row.old_state} ${row.new_state}`,
      [Number(row.transitions), Number(row.lasted_count)],
    ]);
  return Object.fromEntries(counted.sort());
}

/**
 * Without the sockets that lose: where two processors take the last part of one handshake at once, the kernel makes a socket
 * on each and closes all but one (`inet_csk_complete_hashdance`). Both are changes of state, and no connections.
 */
function withoutLosers(
  changes: Readonly<Record<string, readonly number[]>>,
): Readonly<Record<string, readonly number[]>> {
  const { '0 SYN-RECEIVED CLOSED': lost, ...rest } = changes;
  const made = rest['0 LISTEN SYN-RECEIVED'];
  if (lost === undefined || made === undefined) return changes;
  return { ...rest, '0 LISTEN SYN-RECEIVED': made.map((count, i) => count - lost[i]!) };
}

test('every change of state of connections that the server closes', {
  skip: NO_WIRE,
}, async (t) => {
  const wire = makeNamespaces(`state-${process.pid}`);
  t.after(() => wire.remove());
  const live = await startLive(t, ON);
  const [client, server] = wire.names;
  const words = { connections: MANY, close: 'server', host: wire.addresses[1] };
  const done = await talk(t, 'tcp', words, words, { server, client });
  const pids = { client: done.client[0]!.pid, server: done.server[0]!.pid };
  const both = () =>
    [client, server].map((one) => withoutLosers(changes(live, netnsInode(one), pids)));
  await settles(() => live.collector.flush(), both, [
    {
      'client CLOSE-WAIT LAST-ACK': [MANY, MANY],
      'client CLOSED SYN-SENT': [MANY, 0],
      'client ESTABLISHED CLOSE-WAIT': [MANY, MANY],
      'client LAST-ACK CLOSED': [MANY, MANY],
      'client SYN-SENT ESTABLISHED': [MANY, MANY],
    },
    {
      '0 CLOSED LISTEN': [1, 0],
      '0 LISTEN CLOSED': [1, 0],
      '0 LISTEN SYN-RECEIVED': [MANY, 0], // the socket of the connection is a copy of the listener
      '0 SYN-RECEIVED ESTABLISHED': [MANY, 0],
      'server ESTABLISHED FIN-WAIT-1': [MANY, MANY],
      'server FIN-WAIT-1 FIN-WAIT-2': [MANY, MANY],
      'server FIN-WAIT-2 CLOSED': [MANY, MANY],
    },
  ]);
  assert.deepEqual(live.collector.ledger.imbalance(), []);
});

test('without the tcp source, every change by network namespace', { skip: NO_WIRE }, async (t) => {
  const wire = makeNamespaces(`alone-${process.pid}`);
  t.after(() => wire.remove());
  const on = { tcpstate: { enabled: true }, tcp: { enabled: false } };
  const live = await startLive(t, { collector: { probes: on } });
  const [client, server] = wire.names;
  const words = { connections: MANY, close: 'server', host: wire.addresses[1] };
  const done = talk(t, 'tcp', words, words, { server, client });
  await live.collector.flush(); // some are counted in either turn
  await done;
  const both = () =>
    [client, server].map((one) => withoutLosers(changes(live, netnsInode(one), {})));
  await settles(() => live.collector.flush(), both, [
    {
      '0 CLOSE-WAIT LAST-ACK': [MANY, 0],
      '0 CLOSED SYN-SENT': [MANY, 0],
      '0 ESTABLISHED CLOSE-WAIT': [MANY, 0],
      '0 LAST-ACK CLOSED': [MANY, 0],
      '0 SYN-SENT ESTABLISHED': [MANY, 0],
    },
    {
      '0 CLOSED LISTEN': [1, 0],
      '0 ESTABLISHED FIN-WAIT-1': [MANY, 0],
      '0 FIN-WAIT-1 FIN-WAIT-2': [MANY, 0],
      '0 FIN-WAIT-2 CLOSED': [MANY, 0],
      '0 LISTEN CLOSED': [1, 0],
      '0 LISTEN SYN-RECEIVED': [MANY, 0],
      '0 SYN-RECEIVED ESTABLISHED': [MANY, 0],
    },
  ]);
});

test('a state lasts as long as it lasts', { skip: NO_WIRE }, async (t) => {
  const wire = makeNamespaces(`lasts-${process.pid}`);
  t.after(() => wire.remove());
  const live = await startLive(t, ON);
  const [here, there] = wire.names;
  const server = await Traffic.start(t, 'server', { host: wire.addresses[1] }, { netns: there });
  const port = await server.port();
  const words = { host: wire.addresses[1], port, as: 'hold' };
  const client = await Traffic.start(t, 'client', words, { netns: here });
  const began = performance.now();
  await client.opened();
  const open = performance.now();
  await client.exchange();
  await new Promise((done) => setTimeout(done, 200));
  const least_ms = performance.now() - open;
  await Promise.all([client.end(), server.counts()]);
  const most_ms = performance.now() - began;
  const rows = () =>
    live.sink.rows({ netns: netnsInode(here), old_state: 'ESTABLISHED' }, 'tcp_state');
  await settles(
    () => live.collector.flush(),
    () => rows().map(({ transitions }) => transitions),
    [1],
  );
  const lasted_ms = Number(rows()[0]!.lasted_sum) / 1e6;
  assert.ok(lasted_ms >= least_ms && lasted_ms <= most_ms, `${least_ms} ${lasted_ms} ${most_ms}`);
});

/** Established connections by local or peer port, as ss lists them. */
function ssCount(netns: string, port: number): number {
  const filter = ['state', 'established', '(', 'sport', '=', `:${port}`, ')'];
  const words = ['netns', 'exec', netns, 'ss', '-Htan', ...filter];
  return execFileSync('ip', words, { encoding: 'utf8' }).split('\n').filter(Boolean).length;
}

test('connections of each process now', {
  skip: NO_WIRE || (!has_ss && 'needs ss (iproute2)'),
}, async (t) => {
  const wire = makeNamespaces(`now-${process.pid}`);
  t.after(() => wire.remove());
  const [here, there] = wire.names;
  const host = wire.addresses[1];
  const held = 300;
  const server = await Traffic.start(t, 'server', { host, connections: held }, { netns: there });
  const port = await server.port();
  const hold = { host, port, as: 'hold', connections: held };
  const client = await Traffic.start(t, 'client', hold, { netns: here });
  await client.opened();
  await client.exchange();
  const live = await startLive(t, ON); // these connections are older
  const now = (pid: number) =>
    live.sink.total({ pid, state: 'ESTABLISHED' }, ['connections'], 'tcp_connections');
  await live.collector.flush();
  assert.equal(ssCount(there, port), held);
  assert.deepEqual(
    [now(client.pid), now(server.pid)],
    [{ connections: held }, { connections: held }],
  );
  const { pid } = client;
  await Promise.all([client.end(), server.counts()]);
  await settles(
    () => live.collector.flush(),
    () => [now(pid).connections, now(server.pid).connections],
    [0, 0],
  );
  assert.equal(ssCount(there, port), 0);
});
