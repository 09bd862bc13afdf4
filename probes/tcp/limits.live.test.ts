// Too little room: a ring and a map far too small for the traffic. What has no row of its own is in the overflow rows or has
// no owner; the sums are as exact as ever, and the ledger says what became of each record.

import assert from 'node:assert/strict';
import test from 'node:test';
import { NO_LIVE, type Sink, type Sums, settles, startLive } from '../../test/live.ts';
import { type Cleanup, Traffic, talk } from '../../test/traffic/traffic.ts';

const MANY = 6000;
const HELD = 300;
const ATTEMPTS_MAX = 5;
const MEASURES = ['tcp_established', 'tcp_closed', 'bytes_read', 'bytes_written'] as const;

/** Of one end: what has rows of its own, and what is in the overflow row of its direction. */
function ofDirection(sink: Sink, direction: string, port: object): Record<string, number> {
  const own = sink.total({ transport: 'tcp', direction, ...port }, MEASURES);
  const rest = sink.total({ transport: 'tcp', direction, family: '<other>' }, MEASURES);
  return Object.fromEntries(MEASURES.map((name) => [name, own[name]! + rest[name]!]));
}

function both(sink: Sink, port: number): readonly Record<string, number>[] {
  return [
    ofDirection(sink, 'incoming', { src_port: port }),
    ofDirection(sink, 'outgoing', { dst_port: port }),
  ];
}

const end = (read: number, written: number): Sums => ({
  tcp_established: MANY,
  tcp_closed: MANY,
  bytes_read: read * MANY,
  bytes_written: written * MANY,
});
const EXPECTED = [end(100, 1000), end(1000, 100)];

/** By how much what was counted differs from what there was, where it does: negative is missing. */
function differences(sums: readonly Record<string, number>[]): readonly number[] {
  return sums
    .flatMap((sum, i) => MEASURES.map((name) => sum[name]! - EXPECTED[i]![name]!))
    .filter((difference) => difference !== 0);
}

/** False: too much was counted, perhaps since connections of others ended in the same overflow rows. */
async function overflowsExactly(t: Cleanup): Promise<boolean> {
  const { sink, collector } = await startLive(t, { collector: { ring_bytes: 64 << 10 } });
  const words = { connections: MANY };
  const { port } = await talk(t, 'tcp', words, { ...words, threads: 4 });
  const off = (): readonly number[] => differences(both(sink, port));
  await settles(
    () => collector.flush(),
    () => off().filter((difference) => difference < 0),
    [],
  );
  const folded = collector.ledger.rows().find(({ outcome }) => outcome === 'folded');
  assert.ok((folded?.count ?? 0) > MANY / 10, 'the ring was never full: the test shows nothing');
  assert.deepEqual(collector.ledger.imbalance(), []);
  return off().length === 0;
}

test('a ring that overflows at full speed', { skip: NO_LIVE }, async (t) => {
  for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt += 1) {
    if (await overflowsExactly(t)) return;
  }
  assert.fail(`${ATTEMPTS_MAX} times more was counted than there was`);
});

test('more sockets than the map holds', { skip: NO_LIVE }, async (t) => {
  const maps = { sockets_max: 64, processes_max: 16_384 };
  const { sink, collector } = await startLive(t, { collector: { maps } });
  const server = await Traffic.start(t, 'server', { connections: HELD });
  const port = await server.port();
  const client = await Traffic.start(t, 'client', { as: 'hold', port, connections: HELD });
  await client.opened();
  for (let round = 0; round < 3; round += 1) {
    await client.exchange();
    await collector.flush();
  }
  await Promise.all([client.end(), server.counts()]);
  const all = { tcp_established: HELD, tcp_closed: HELD };
  const sums = (): unknown => [
    sink.total({ src_port: port }, MEASURES),
    sink.total({ dst_port: port }, MEASURES),
  ];
  const expected = [
    { ...all, bytes_read: 300 * HELD, bytes_written: 3000 * HELD },
    { ...all, bytes_read: 3000 * HELD, bytes_written: 300 * HELD },
  ];
  await settles(() => collector.flush(), sums, expected);
  assert.deepEqual(collector.ledger.imbalance(), []);
  const full = collector.ledger.rows().find(({ table }) => table === 'tcp_map_full');
  assert.ok((full?.count ?? 0) > 0, 'the map was never full: the test shows nothing');
  assert.ok(sink.rows({ src_port: port, pid: server.pid }).length > 0, 'no row has an owner');
});
