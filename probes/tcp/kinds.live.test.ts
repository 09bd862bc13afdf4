// Sockets that the kernel treats like those of TCP or UDP, and connections that begin in another way than by a handshake.

import assert from 'node:assert/strict';
import test from 'node:test';
import { NO_LIVE, settles, startLive } from '../../test/live.ts';
import { Traffic } from '../../test/traffic/traffic.ts';

const ROWS = ['tcp_established', 'tcp_closed', 'packets_read', 'packets_written'] as const;

test('sockets that have but the number of TCP or UDP', { skip: NO_LIVE }, async (t) => {
  const { sink, collector } = await startLive(t);
  for (const as of ['netlink', 'raw_tcp']) {
    await t.test(as, async (t) => {
      const traffic = await Traffic.start(t, 'sockets', { as });
      await traffic.opened();
      await collector.flush();
      await traffic.end();
      await collector.flush();
      assert.deepEqual(sink.rows({ pid: traffic.pid }), []);
    });
  }
  await t.test('raw_udp', async (t) => {
    const traffic = await Traffic.start(t, 'sockets', { as: 'raw_udp' });
    const port = await traffic.port();
    const pid = (await traffic.counts())[0]!.pid;
    const none = { tcp_established: 0, tcp_closed: 0, packets_read: 0, packets_written: 0 };
    const view = (): unknown => [
      sink.total({ pid }, ROWS),
      sink.total({ pid, src_port: port }, ROWS),
      sink.total({ pid, dst_port: port }, ROWS),
    ];
    const expected = [
      { ...none, packets_read: 10, packets_written: 10 },
      { ...none, packets_read: 10 },
      { ...none, packets_written: 10 },
    ];
    await settles(() => collector.flush(), view, expected);
  });
});
