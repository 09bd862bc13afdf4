// Sockets that the kernel treats like those of TCP or UDP, and connections that begin in another way than by a handshake.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import test from 'node:test';
import { NO_LIVE, settles, startLive } from '../../test/live.ts';
import {
  type Cleanup,
  haveIp,
  makeNamespaces,
  type Namespaces,
  Traffic,
} from '../../test/traffic/traffic.ts';

const ROWS = ['tcp_established', 'tcp_closed', 'packets_read', 'packets_written'] as const;

test('sockets that have but the number of TCP or UDP', { skip: NO_LIVE }, async (t) => {
  const { sink, collector } = await startLive(t);
  const udp = collector.kernel.plan.sources.find(({ source }) => source === 'udp');
  const datagrams = udp?.parts.find(({ part }) => part === 'datagrams');
  const skip = datagrams?.variant !== 'socket calls' && 'raw sockets are counted with packets';
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
  await t.test('raw_udp', { skip }, async (t) => {
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

const SUMS = ['tcp_established', 'tcp_closed', 'bytes_read', 'bytes_written'] as const;

/** A wire between two network namespaces whose sockets use fast open, without cookies. */
function fastWire(t: Cleanup): Namespaces {
  const wire = makeNamespaces(`kinds-${process.pid}`);
  t.after(() => wire.remove());
  const write = 'echo "$0" >/proc/sys/net/ipv4/tcp_fastopen';
  for (const name of wire.names) ip('netns', 'exec', name, 'sh', '-c', write, '1543');
  return wire;
}

function ip(...words: string[]): void {
  execFileSync('ip', words, { stdio: 'pipe' });
}

/** What the server sends goes to nobody until the function that this returns is called. */
function deafen({ names, addresses }: Namespaces): () => void {
  const client = [addresses[0], 'dev', 'w1'];
  ip('-n', names[1], 'neigh', 'add', ...client, 'lladdr', '02:00:00:00:00:99');
  return () => ip('-n', names[1], 'neigh', 'del', ...client);
}

test('TCP Fast Open: read and written before the handshake ends', {
  skip: NO_LIVE || (!haveIp() && 'needs ip'),
}, async (t) => {
  const { sink, collector } = await startLive(t);
  const wire = fastWire(t);
  const mend = deafen(wire);
  const host = wire.addresses[1];
  const as = 'fast_open_server';
  const server = await Traffic.start(t, 'sockets', { as, host }, { netns: wire.names[1] });
  const port = await server.port();
  const words = { as: 'fast_open_client', host, port };
  const client = await Traffic.start(t, 'sockets', words, { netns: wire.names[0] });
  await server.opened();
  await collector.flush();
  mend();
  await Promise.all([client.counts(), server.counts()]);
  const once = { tcp_established: 1, tcp_closed: 1 };
  const view = (): unknown => [
    sink.total({ src_port: port, pid: server.pid, direction: 'incoming' }, SUMS),
    sink.total({ dst_port: port, pid: client.pid, direction: 'outgoing' }, SUMS),
    sink.total({ src_port: port, pid: 0 }, SUMS),
  ];
  const expected = [
    { ...once, bytes_read: 150, bytes_written: 200 },
    { ...once, bytes_read: 200, bytes_written: 150 },
    { tcp_established: 0, tcp_closed: 0, bytes_read: 0, bytes_written: 0 },
  ];
  await settles(() => collector.flush(), view, expected);
  const booked = collector.ledger.rows().filter(({ table }) => table === 'tcp_stale');
  assert.deepEqual(
    booked.filter(({ count }) => count > 0),
    [],
  );
});

test('TCP Fast Open: given up before the first write', {
  skip: NO_LIVE || (!haveIp() && 'needs ip'),
}, async (t) => {
  const { sink, collector } = await startLive(t);
  const wire = fastWire(t);
  const words = { as: 'fast_open_unused', host: wire.addresses[1], port: 7004 };
  const client = await Traffic.start(t, 'sockets', words, { netns: wire.names[0] });
  await client.counts();
  const match = { dst_port: 7004, pid: client.pid, error_type: 'abandoned' };
  const view = (): unknown => sink.total(match, ['connect_failures', 'tcp_established']);
  const expected = { connect_failures: 1, tcp_established: 0 };
  await settles(() => collector.flush(), view, expected);
});
