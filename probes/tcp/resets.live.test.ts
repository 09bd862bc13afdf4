// Resets by an end that has shut down its sending side before: both ends count them; and ends of the same kind that are none.

import { join } from 'node:path';
import test from 'node:test';
import { NO_LIVE, settles, startLive } from '../../test/live.ts';
import { lacksProgram, Peer } from '../../test/peer.ts';

/** For each way of ending: whether the client resets. */
const WAYS = {
  'unread data': true,
  'linger 0': true,
  'linger 0 before the FIN is acknowledged': true,
  'all is read': false,
  'closed before the answer is sent': false,
  repair: false,
};

const SKIP = NO_LIVE || lacksProgram('python3');

test('a client that ends after shutdown()', { skip: SKIP }, async (t) => {
  const { sink, collector } = await startLive(t);
  for (const [way, resets] of Object.entries(WAYS)) {
    await t.test(way, async () => {
      const peer = new Peer(t, 'python3', [join(import.meta.dirname, 'shutdown_peer.py'), way]);
      const port = Number(await peer.line());
      const measures = ['tcp_closed', 'resets_sent', 'resets_received'];
      const view = (): unknown => [
        sink.total({ src_port: port, direction: 'incoming' }, measures),
        sink.total({ dst_port: port, direction: 'outgoing' }, measures),
      ];
      await peer.line();
      const none = { tcp_closed: 5, resets_sent: 0, resets_received: 0 };
      const n = resets ? 5 : 0;
      await settles(() => collector.flush(), view, [
        { ...none, resets_received: n },
        { ...none, resets_sent: n },
      ]);
    });
  }
});
