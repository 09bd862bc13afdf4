// Connections that fail, and connections that end badly: counted once, by their reason, under the process that tried.

import assert from 'node:assert/strict';
import test from 'node:test';
import { type FlowRow, NO_LIVE, type Sink, settles, startLive } from '../../test/live.ts';
import {
  type Cleanup,
  type Counts,
  haveIp,
  makeNamespaces,
  type Namespaces,
  nameTraffic,
  Traffic,
  talk,
  type Words,
} from '../../test/traffic/traffic.ts';

const MEASURES = [
  'tcp_established',
  'tcp_closed',
  'connect_failures',
  'resets_sent',
  'resets_received',
  'bytes_read',
  'bytes_written',
] as const;

type Ends = Partial<Record<(typeof MEASURES)[number], number>>;

/** What a process's rows at a peer's port say: measures that are not zero, by `error_type`. */
function ends(sink: Sink, match: FlowRow): Record<string, Ends> {
  const kinds = new Set(sink.rows(match).map((row) => String(row.error_type)));
  return Object.fromEntries(
    [...kinds].sort().map((error_type) => {
      const sums = sink.total({ ...match, error_type }, MEASURES);
      return [error_type, Object.fromEntries(Object.entries(sums).filter(([, sum]) => sum > 0))];
    }),
  );
}

/** A port at which nothing listens: it was somebody's until now. */
async function closedPort(t: Cleanup): Promise<number> {
  const server = await Traffic.start(t, 'server', { drop: 1 });
  const port = await server.port();
  await server.end();
  return port;
}

async function run(t: Cleanup, words: Words, netns?: string): Promise<Counts> {
  const client = await Traffic.start(t, 'client', words, netns === undefined ? {} : { netns });
  const [counts] = await client.counts();
  return counts!;
}

test('connects that fail', { skip: NO_LIVE }, async (t) => {
  const { sink, collector } = await startLive(t);
  const flush = (): Promise<void> => collector.flush();

  await t.test('refused', async () => {
    const port = await closedPort(t);
    for (const as of ['', 'nonblocking']) {
      const { pid, errors } = await run(t, { as, port, connections: 50 });
      assert.deepEqual(errors, { ECONNREFUSED: 50 });
      const match = { dst_port: port, pid, process_name: 'traffic', direction: 'outgoing' };
      const expected = { ECONNREFUSED: { connect_failures: 50 } };
      await settles(flush, () => ends(sink, match), expected);
    }
    assert.equal(sink.rows({ dst_port: port, pid: 0 }).length, 0);
  });

  await t.test('from a port that the same connection has', async (t) => {
    const taken = await Traffic.start(t, 'sockets', { as: 'take_twice' });
    const port = await taken.port();
    const [counts] = await taken.counts();
    assert.deepEqual(counts!.errors, { EADDRNOTAVAIL: 1 });
    const match = { dst_port: port, pid: taken.pid, direction: 'outgoing' };
    const expected = {
      '': { tcp_established: 1, tcp_closed: 1 },
      EADDRNOTAVAIL: { connect_failures: 1 },
    };
    await settles(flush, () => ends(sink, match), expected);
  });

  await t.test('no answer', { skip: !haveIp() && 'needs ip' }, async (t) => {
    const wire = makeNamespaces(`ends-${process.pid}`);
    t.after(() => wire.remove());
    await Promise.all(unanswered(t, wire).map((one) => one(sink, flush)));
  });
});

/** Each takes seconds of waiting, so they wait together. */
function unanswered(
  t: Cleanup,
  wire: Namespaces,
): ((sink: Sink, flush: () => Promise<void>) => Promise<void>)[] {
  const cases = [
    { host: wire.blackhole, port: 7001, error: 'ETIMEDOUT', words: { syn_retries: 1 } },
    { host: wire.silent, port: 7002, error: 'EHOSTUNREACH', words: {} },
    { host: wire.blackhole, port: 7003, error: 'abandoned', words: { as: 'abandon' } },
  ];
  return cases.map(({ host, port, error, words }) => async (sink, flush) => {
    const shared = { host, port, connections: 4, threads: 4, ...words };
    const { pid, errors } = await run(t, shared, wire.names[0]);
    assert.deepEqual(errors, { [error === 'abandoned' ? 'ECANCELED' : error]: 4 });
    const match = { dst_port: port, dst_ip: host, pid, process_name: 'traffic' };
    await settles(flush, () => ends(sink, match), { [error]: { connect_failures: 4 } });
  });
}

interface Reset {
  readonly name: string;
  readonly server: Words;
  readonly client: Words;
  readonly server_ends: Ends;
  readonly client_ends: Ends;
}

const N = 200;
const all = { tcp_established: N, tcp_closed: N };

/** Bytes are what the kernel received, whether or not the program read them before it closed. */
const RESETS: readonly Reset[] = [
  {
    name: 'by a server that closes with linger 0',
    server: { end: 'reset', response: 0 },
    client: {},
    server_ends: { ...all, resets_sent: N, bytes_read: 100 * N },
    client_ends: { ...all, resets_received: N, bytes_written: 100 * N },
  },
  {
    name: 'by a server that closes with unread data',
    server: { end: 'unread' },
    client: {},
    server_ends: { ...all, resets_sent: N, bytes_read: 100 * N },
    client_ends: { ...all, resets_received: N, bytes_written: 100 * N },
  },
  {
    name: 'by a client that closes with linger 0',
    server: {},
    client: { end: 'reset' },
    server_ends: { ...all, resets_received: N, bytes_read: 100 * N, bytes_written: 1000 * N },
    client_ends: { ...all, resets_sent: N, bytes_read: 1000 * N, bytes_written: 100 * N },
  },
  {
    name: 'by a client that closes with unread data',
    server: {},
    client: { end: 'unread' },
    server_ends: { ...all, resets_received: N, bytes_read: 100 * N, bytes_written: 1000 * N },
    client_ends: { ...all, resets_sent: N, bytes_read: 1000 * N, bytes_written: 100 * N },
  },
];

test('connections that are reset', { skip: NO_LIVE }, async (t) => {
  const { sink, collector } = await startLive(t);
  for (const { name, server, client, server_ends, client_ends } of RESETS) {
    await t.test(name, async () => {
      const done = await talk(
        t,
        'tcp',
        { connections: N, ...server },
        { connections: N, ...client },
      );
      const view = (): unknown => [
        ends(sink, { src_port: done.port, pid: done.server[0]!.pid }),
        ends(sink, { dst_port: done.port, pid: done.client[0]!.pid }),
      ];
      await settles(() => collector.flush(), view, [{ '': server_ends }, { '': client_ends }]);
    });
  }
});

test('connections that nobody accepts end with their listener', { skip: NO_LIVE }, async (t) => {
  const { sink, collector } = await startLive(t);
  const server = await Traffic.start(t, 'server', { drop: 1 });
  const port = await server.port();
  const client = await Traffic.start(t, 'client', { as: 'hold', port, connections: 5 });
  await client.opened();
  await server.end();
  await client.end();
  const five = { tcp_established: 5, tcp_closed: 5 };
  const view = (): unknown => [
    ends(sink, { src_port: port, pid: server.pid }),
    ends(sink, { dst_port: port, pid: client.pid }),
  ];
  const expected = [{ '': { ...five, resets_sent: 5 } }, { '': { ...five, resets_received: 5 } }];
  await settles(() => collector.flush(), view, expected);
});

test('a killed process keeps its name in the rows of its end', { skip: NO_LIVE }, async (t) => {
  const { sink, collector } = await startLive(t);
  const { path: program, remove } = await nameTraffic('traffic-of-a-long-name');
  t.after(remove);
  const server = await Traffic.start(t, 'server', { connections: 100 }, { program });
  const port = await server.port();
  const used = await Traffic.start(t, 'client', { as: 'hold', port, connections: 3 });
  await used.opened();
  await used.exchange();
  const idle = await Traffic.start(t, 'client', { as: 'hold', port, connections: 5 });
  await idle.opened();
  await used.exchange(); // the server has accepted those that came before
  await server.kill();
  await Promise.all([used.end(), idle.end()]);
  const view = (): unknown => sink.views('tcp', port).filter((row) => row.direction === 'incoming');
  const own = { src_port: port, dst_port: 0, pid: server.pid, direction: 'incoming' };
  const counted = { bytes_read: 3 * 200, bytes_written: 3 * 2000 };
  const name = { process_name: 'traffic-of-a-long-name' };
  const expected = [{ ...own, ...name, tcp_established: 8, tcp_closed: 8, ...counted }];
  await settles(() => collector.flush(), view, expected);
});
