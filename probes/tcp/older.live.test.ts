// Connections that live long: open before sonde starts, and reported while they go on. Every byte of their lives is
// counted once, whoever asks how often.

import assert from 'node:assert/strict';
import test, { type TestContext } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { type FlowRow, NO_LIVE, type Sink, settles, startLive } from '../../test/live.ts';
import {
  type Cleanup,
  haveIp,
  makeNamespaces,
  Traffic,
  type Words,
} from '../../test/traffic/traffic.ts';

const HELD = 40;
const MEASURES = [
  'tcp_established',
  'tcp_closed',
  'preexisting',
  'bytes_read',
  'bytes_written',
  'bytes_read_before_start',
  'bytes_written_before_start',
] as const;

interface Pair {
  readonly server: Traffic;
  readonly client: Traffic;
  readonly port: number;
}

/** Connections between two programs, all open. */
async function hold(
  t: Cleanup,
  words: Words,
  serving: Words,
  netns: readonly string[] = [],
): Promise<Pair> {
  const place = (name?: string) => (name === undefined ? {} : { netns: name });
  const both = { connections: HELD, ...words };
  const server = await Traffic.start(t, 'server', { ...both, ...serving }, place(netns[0]));
  const port = await server.port();
  const client = await Traffic.start(t, 'client', { as: 'hold', port, ...both }, place(netns[1]));
  await client.opened();
  return { server, client, port };
}

/** Sums of both ends: [server, client], each under its process, direction and port; all of a port must be there. */
function sums(sink: Sink, { server, client, port }: Pair): unknown {
  const own = { process_name: 'traffic' };
  const served = { ...own, src_port: port, dst_port: 0, direction: 'incoming', pid: server.pid };
  const called = { ...own, src_port: 0, dst_port: port, direction: 'outgoing', pid: client.pid };
  const others = sink
    .views('tcp', port)
    .filter((row) => !covers(served, row) && !covers(called, row));
  return [sink.total(served, MEASURES), sink.total(called, MEASURES), others];
}

function covers(match: FlowRow, row: FlowRow): boolean {
  return Object.entries(match).every(([name, value]) => row[name] === value);
}

/** After so many exchanges of 100 and 1000 bytes on each, so many of them before the start. */
function expected(exchanges: number, before: number | undefined, closed: boolean): unknown {
  const end = (read: number, written: number) => ({
    tcp_established: HELD,
    tcp_closed: closed ? HELD : 0,
    preexisting: before === undefined ? 0 : HELD,
    bytes_read: read * HELD * exchanges,
    bytes_written: written * HELD * exchanges,
    bytes_read_before_start: read * HELD * (before ?? 0),
    bytes_written_before_start: written * HELD * (before ?? 0),
  });
  return [end(100, 1000), end(1000, 100), []];
}

/** From before the start until after the end, with reports between. */
async function followsOlder(t: TestContext, pairs: readonly Pair[]): Promise<void> {
  for (const { client } of pairs) await client.exchange();
  const { sink, collector } = await startLive(t);
  const flush = (): Promise<void> => collector.flush();
  const view = (): unknown => pairs.map((pair) => sums(sink, pair));
  const same = (...args: Parameters<typeof expected>) => pairs.map(() => expected(...args));
  await settles(flush, view, same(1, 1, false));
  for (const { client } of pairs) await client.exchange();
  await settles(flush, view, same(2, 1, false));
  await Promise.all(pairs.flatMap(({ client, server }) => [client.end(), server.counts()]));
  await settles(flush, view, same(2, 1, true));
  assert.deepEqual(collector.ledger.imbalance(), []);
}

test('connections that are open before the start', { skip: NO_LIVE }, async (t) => {
  await t.test('of one process, of workers, by IPv6', async (t) => {
    await followsOlder(t, [
      await hold(t, {}, {}),
      await hold(t, { host: '::1' }, {}),
      await hold(t, {}, { host: '::' }),
    ]);
  });
  await t.test('on descriptors below the one that listens', async (t) => {
    await followsOlder(t, [await hold(t, {}, { high: 1 })]);
  });
  await t.test('in other network namespaces', { skip: !haveIp() && 'needs ip' }, async (t) => {
    const wire = makeNamespaces(`older-${process.pid}`);
    t.after(() => wire.remove());
    const [a, b] = wire.names;
    await followsOlder(t, [await hold(t, { host: wire.addresses[0] }, {}, [a, b])]);
  });
});

/** Of connections whose listener has gone, one was bound to its port before it connected. */
async function orphans(t: TestContext, from: number): Promise<unknown> {
  const traffic = await Traffic.start(t, 'sockets', { as: 'orphan', from });
  const port = await traffic.port();
  await traffic.opened();
  const { sink, collector } = await startLive(t);
  await traffic.end();
  const ends = [{ src_port: port }, { dst_port: port }];
  const closed = (direction: string): readonly (number | undefined)[] =>
    ends.map((end) => sink.total({ direction, ...end }, ['tcp_closed']).tcp_closed);
  await settles(
    () => collector.flush(),
    () => sink.total({ pid: traffic.pid }, ['tcp_closed']),
    { tcp_closed: 4 },
  );
  return { incoming: closed('incoming'), outgoing: closed('outgoing'), unknown: closed('unknown') };
}

test('older connections without a listener', { skip: NO_LIVE }, async (t) => {
  await t.test('of a port below those that the kernel chooses', async (t) => {
    const found = await orphans(t, 8000);
    assert.deepEqual(found, { incoming: [2, 0], outgoing: [0, 2], unknown: [0, 0] });
  });
  await t.test('of a port among them: told where connect() chose the other', async (t) => {
    const found = await orphans(t, 40_000);
    assert.deepEqual(found, { incoming: [0, 0], outgoing: [0, 1], unknown: [2, 1] });
  });
});

test('reports in the middle of connections add up', { skip: NO_LIVE }, async (t) => {
  const { sink, collector } = await startLive(t);
  const pair = await hold(t, {}, {});
  for (let exchanges = 1; exchanges <= 5; exchanges += 1) {
    // Reports while bytes are on their way, as many as fit.
    let going = true;
    const moving = pair.client.exchange().finally(() => {
      going = false;
    });
    while (going) await collector.flush();
    await moving;
    await settles(
      () => collector.flush(),
      () => sums(sink, pair),
      expected(exchanges, undefined, false),
    );
  }
  await Promise.all([pair.client.end(), pair.server.counts()]);
  await settles(
    () => collector.flush(),
    () => sums(sink, pair),
    expected(5, undefined, true),
  );
});

test('reports that race with ends count nothing twice', { skip: NO_LIVE }, async (t) => {
  const { sink, collector } = await startLive(t, { collector: { ring_bytes: 64 << 20 } });
  const variants = collector.kernel.plan.sources.flatMap((one) => one.parts.map((p) => p.variant));
  if (variants.some((variant) => variant.endsWith('without atomics'))) {
    return t.skip(
      'this kernel has no compare-and-exchange: reports within some ns may count twice',
    );
  }
  const words = { connections: 10_000, request: 3000, response: 3000 };
  const server = await Traffic.start(t, 'server', words);
  const port = await server.port();
  const client = await Traffic.start(t, 'client', { ...words, port, threads: 4 });
  let going = true;
  const both = Promise.all([server.counts(), client.counts()]).finally(() => {
    going = false;
  });
  while (going) {
    for (let i = 0; i < 10; i += 1) collector.kernel.sweep('interval');
    await setImmediate();
  }
  const counted = (await both).map(([counts]) => counts!);
  const names = ['tcp_established', 'tcp_closed', 'bytes_read', 'bytes_written'] as const;
  const view = (): unknown => [
    sink.total({ src_port: port }, names),
    sink.total({ dst_port: port }, names),
  ];
  const expected = counted.map(({ connections, bytes_read, bytes_written }) => ({
    tcp_established: connections,
    tcp_closed: connections,
    bytes_read,
    bytes_written,
  }));
  await settles(() => collector.flush(), view, expected);
  for (const { pid } of counted) {
    const elsewhere = sink
      .rows({ pid })
      .filter(({ src_port, dst_port }) => src_port !== port && dst_port !== port);
    assert.deepEqual(elsewhere, [], 'rows at ports that the program never had');
  }
  const decoded = collector.ledger.rows().filter(({ reason }) => reason === 'negative_delta');
  assert.deepEqual(decoded, []);
});
