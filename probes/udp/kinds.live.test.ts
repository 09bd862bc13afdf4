// UDP sockets that several processes have, that are silent for long, or whose ends only the datagrams themselves name.

import assert from 'node:assert/strict';
import test from 'node:test';
import { NO_LIVE, settles, sorted, startLive } from '../../test/live.ts';
import { type Cleanup, type Counts, Traffic, type Words } from '../../test/traffic/traffic.ts';

interface Done {
  readonly port: number;
  readonly counts: readonly Counts[];
}

async function run(t: Cleanup, words: Words): Promise<Done> {
  const traffic = await Traffic.start(t, 'sockets', words);
  const port = await traffic.port();
  return { port, counts: await traffic.counts() };
}

test('a socket of two processes', { skip: NO_LIVE }, async (t) => {
  const { sink, collector } = await startLive(t);
  const { port, counts } = await run(t, { as: 'udp_shared' });
  const view = (): unknown =>
    sorted(sink.views('udp', port)).map((row) => [row.pid, row.packets_written, row.bytes_written]);
  const expected = counts.map((one) => [one.pid, one.datagrams_written, one.bytes_written]);
  await settles(() => collector.flush(), view, expected.sort());
  assert.deepEqual(collector.ledger.imbalance(), []);
});
