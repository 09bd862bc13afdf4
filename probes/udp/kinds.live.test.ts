// UDP sockets that several processes have, that are silent for long, or whose ends only the datagrams themselves name.

import assert from 'node:assert/strict';
import test from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
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

/** More than what makes a flow idle (udp.bpf.h: UDP_IDLE_NS). */
const SILENCE_MS = 11_000;

test('each end keeps its role over a silence', { skip: NO_LIVE }, async (t) => {
  const { sink, collector } = await startLive(t);
  const traffic = await Traffic.start(t, 'sockets', { as: 'udp_idle' });
  const port = await traffic.port();
  await traffic.opened();
  await collector.flush();
  await delay(SILENCE_MS);
  for (let sweeps = 0; sweeps < 3; sweeps += 1) await collector.flush();
  await traffic.exchange(); // the server speaks first
  await traffic.end();
  const own = { pid: traffic.pid, process_name: 'traffic' };
  const asked = { packets_written: 1, bytes_written: 10, packets_read: 1, bytes_read: 20 };
  const answered = { packets_written: 1, bytes_written: 20, packets_read: 1, bytes_read: 10 };
  const expected = [
    { ...own, direction: 'incoming', src_port: port, dst_port: 0, ...answered },
    { ...own, direction: 'outgoing', src_port: 0, dst_port: port, ...asked },
  ];
  await settles(
    () => collector.flush(),
    () => sink.views('udp', port),
    expected,
  );
});
