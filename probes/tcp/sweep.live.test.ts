// Many connections at once: one flush reports them all, however small the ring, and so does the end.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import test from 'node:test';
import { NO_LIVE, type Sink, type Sums, settles, startLive } from '../../test/live.ts';
import { type Cleanup, Traffic } from '../../test/traffic/traffic.ts';

const MEASURES = ['tcp_established', 'tcp_closed', 'bytes_read', 'bytes_written'] as const;

interface Pair {
  readonly server: Traffic;
  readonly client: Traffic;
  readonly port: number;
}

async function hold(t: Cleanup, connections: number): Promise<Pair> {
  const server = await Traffic.start(t, 'server', { connections });
  const port = await server.port();
  const client = await Traffic.start(t, 'client', { as: 'hold', port, connections });
  await client.opened();
  return { server, client, port };
}

function ends(sink: Sink, port: number): readonly Sums[] {
  return [sink.total({ src_port: port }, MEASURES), sink.total({ dst_port: port }, MEASURES)];
}

test('one flush and one stop report all, through a ring of 64 KiB', {
  skip: NO_LIVE,
}, async (t) => {
  const held = 2000;
  const expected = (exchanges: number): readonly Sums[] => {
    const all = { tcp_established: held, tcp_closed: 0 };
    const [requests, responses] = [held * 100 * exchanges, held * 1000 * exchanges];
    return [
      { ...all, bytes_read: requests, bytes_written: responses },
      { ...all, bytes_read: responses, bytes_written: requests },
    ];
  };
  const { server, client, port } = await hold(t, held);
  await client.exchange();
  const { sink, collector } = await startLive(t, { collector: { ring_bytes: 64 << 10 } });
  await collector.flush();
  assert.deepEqual(ends(sink, port), expected(1));
  await client.exchange();
  await collector.flush();
  assert.deepEqual(ends(sink, port), expected(2));
  await client.exchange();
  await collector.stop(60_000);
  assert.deepEqual(ends(sink, port), expected(3));
  assert.deepEqual(collector.ledger.imbalance(), []);
  await Promise.all([client.end(), server.counts()]);
});

const PAIRS = 4;
const SOCKETS = 100_000;
/** What so many sockets take, and as much again. */
const MEMORY_BYTES = 2 << 30;

/** Why there is no room for so many sockets; false: there is. */
function noRoom(): string | false {
  const available = Number(
    /^MemAvailable: *(\d+) kB/m.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1],
  );
  if (available * 1024 < MEMORY_BYTES) return 'needs 2 GiB of free memory';
  const descriptors = Number(readFileSync('/proc/sys/fs/nr_open', 'utf8'));
  return descriptors < SOCKETS && 'needs fs.nr_open of 100000';
}

test(`${SOCKETS} open sockets`, { skip: NO_LIVE || noRoom() }, async (t) => {
  const each = SOCKETS / 2 / PAIRS;
  const pairs = await Promise.all(Array.from({ length: PAIRS }, () => hold(t, each)));
  const before = performance.now();
  const maps = { sockets_max: 200_000, processes_max: 16_384 };
  const { sink, collector } = await startLive(t, { collector: { maps, ring_bytes: 64 << 20 } });
  const started = performance.now();
  await collector.flush();
  const flushed = performance.now();
  t.diagnostic(
    `started with ${SOCKETS} sockets in ${Math.round(started - before)} ms, ` +
      `flushed in ${Math.round(flushed - started)} ms more`,
  );
  const all = { tcp_established: each, bytes_read: 0, bytes_written: 0 };
  const view = (): unknown => pairs.map(({ port }) => ends(sink, port));
  const open = pairs.map(() => [
    { ...all, tcp_closed: 0 },
    { ...all, tcp_closed: 0 },
  ]);
  assert.deepEqual(view(), open);
  await Promise.all(pairs.flatMap(({ client, server }) => [client.end(), server.counts()]));
  const closed = pairs.map(() => [
    { ...all, tcp_closed: each },
    { ...all, tcp_closed: each },
  ]);
  await settles(() => collector.flush(), view, closed);
  for (const { server, client, port } of pairs) {
    assert.equal(sink.total({ src_port: port, pid: server.pid }, MEASURES).tcp_closed, each);
    assert.equal(sink.total({ dst_port: port, pid: client.pid }, MEASURES).tcp_closed, each);
  }
});
