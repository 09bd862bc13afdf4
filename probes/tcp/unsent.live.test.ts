// Connects that fail before a SYN is sent: counted for their process, with whom they wanted to speak.

import { join } from 'node:path';
import test from 'node:test';
import { NO_LIVE, settles, startLive } from '../../test/live.ts';
import { lacksProgram, Peer } from '../../test/peer.ts';

test('connects without a route, or without leave', {
  skip: NO_LIVE || lacksProgram('python3', 'unshare', 'ip'),
}, async (t) => {
  const live = await startLive(t);
  const script = join(import.meta.dirname, 'unroutable.py');
  const peer = new Peer(t, 'unshare', ['-n', 'python3', script]);
  const [pid = 0, port = 0, times = 0] = (await peer.line()).split(' ').map(Number);
  const failed = (dst_ip: string, dst_port: number) =>
    live.sink.total({ pid, dst_ip, dst_port, direction: 'outgoing', error_type: 'not_sent' }, [
      'connect_failures',
      'tcp_established',
    ]);
  const all = { connect_failures: 2 * times, tcp_established: 0 };
  await settles(
    () => live.collector.flush(),
    () => [
      failed('198.51.100.7', 4701),
      failed('2001:db8::7', 4702),
      failed('192.0.2.7', 4703),
      live.sink.total({ pid, dst_port: port }, ['connect_failures', 'tcp_established']),
    ],
    [all, all, all, { connect_failures: 0, tcp_established: 1 }],
  );
});
