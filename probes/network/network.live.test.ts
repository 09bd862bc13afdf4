// Drops and counters against what makes them: rules of nftables that drop and count, ports where nobody listens.

import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { statSync } from 'node:fs';
import test, { type TestContext } from 'node:test';
import { type Live, NO_LIVE, settles, startLive } from '../../test/live.ts';
import {
  haveIp,
  makeNamespaces,
  type Namespaces,
  Traffic,
  talk,
} from '../../test/traffic/traffic.ts';

const has_nft = spawnSync('nft', ['--version']).status === 0;
const NO_WIRE = NO_LIVE || (!haveIp() && 'needs ip');
const ON = { collector: { probes: { network: { enabled: true } } } };

interface Place {
  readonly wire: Namespaces;
  /** Inode numbers of the two namespaces. */
  readonly inodes: readonly [number, number];
}

/** Two namespaces, each with a process in it: only such are seen. */
function makePlace(t: TestContext): Place {
  const wire = makeNamespaces(`network-${process.pid}`);
  t.after(() => wire.remove());
  for (const name of wire.names) {
    const stay = spawn('ip', ['netns', 'exec', name, 'sleep', '300'], { stdio: 'ignore' });
    t.after(() => stay.kill('SIGKILL'));
  }
  const [a, b] = wire.names.map((name) => statSync(`/run/netns/${name}`).ino);
  return { wire, inodes: [a!, b!] };
}

/** Of kernels that give no reason, all drops: there are no others in a namespace of the test's own, but by IPv6. */
function drops(live: Live, netns: number, reason: string): readonly (string | number)[] {
  const { parts } = live.collector.kernel.plan.sources.find(({ source }) => source === 'network')!;
  const why = parts[0]!.variant === 'tp_btf' ? { reason } : { reason: '', protocol: 'IPv4' };
  const rows = live.sink.rows({ netns, ...why }, 'network_drops');
  return rows.flatMap((row) => [row.protocol!, row.packets!]);
}

function counter({ sink }: Live, netns: number, name: string): number {
  return sink.total({ netns }, [name], 'network')[name]!;
}

test('what nftables drops', {
  skip: NO_WIRE || (!has_nft && 'needs nft (nftables)'),
}, async (t) => {
  const { wire, inodes } = makePlace(t);
  const live = await startLive(t, ON);
  const rules = `table inet sonde { counter dropped { }
    chain in { type filter hook input priority 0; udp dport 7777 counter name dropped drop; }
  }`;
  const inside = ['netns', 'exec', wire.names[1], 'nft'];
  execFileSync('ip', [...inside, '-f', '-'], { input: rules });
  const words = { port: 7777, host: wire.addresses[1], datagrams: 1234 };
  const client = await Traffic.start(t, 'udp-client', words, { netns: wire.names[0] });
  await client.counts();
  const counted = execFileSync('ip', [...inside, 'list', 'counters'], { encoding: 'utf8' });
  const packets = Number(/packets (\d+)/.exec(counted)?.[1]);
  assert.equal(packets, 1234);
  await settles(
    () => live.collector.flush(),
    () => drops(live, inodes[1], 'NETFILTER_DROP'),
    ['IPv4', packets],
  );
  assert.deepEqual(live.collector.ledger.imbalance(), []);
});

test('connects to a port where nobody listens', { skip: NO_WIRE }, async (t) => {
  const { wire, inodes } = makePlace(t);
  const live = await startLive(t, ON);
  const words = { port: 7778, host: wire.addresses[1], connections: 500 };
  const client = await Traffic.start(t, 'client', words, { netns: wire.names[0] });
  const [counts] = await client.counts();
  assert.equal(counts?.errors.ECONNREFUSED, 500);
  await settles(
    () => live.collector.flush(),
    () => [
      counter(live, inodes[1], 'tcp_resets_sent'),
      counter(live, inodes[0], 'tcp_attempts_failed'),
      ...drops(live, inodes[1], 'NO_SOCKET'),
    ],
    [500, 500, 'IPv4', 500],
  );
});

test('a listener whose queue is full', { skip: NO_WIRE }, async (t) => {
  const { wire, inodes } = makePlace(t);
  const live = await startLive(t, ON);
  const host = wire.addresses[1];
  // Nobody accepts: two connections fit into the queue, and each SYN after them is lost.
  const server = await Traffic.start(
    t,
    'server',
    { host, backlog: 1, drop: 1 },
    { netns: wire.names[1] },
  );
  const port = await server.port();
  const words = { host, port, connections: 2, as: 'hold' };
  await (await Traffic.start(t, 'client', words, { netns: wire.names[0] })).opened();
  const late = { host, port, connections: 5, threads: 5, syn_retries: 1 };
  const client = await Traffic.start(t, 'client', late, { netns: wire.names[0] });
  const [counts] = await client.counts();
  const failed = counts?.errors.ETIMEDOUT ?? 0;
  assert.equal(failed, 5);
  await live.collector.flush();
  const sent = failed + counter(live, inodes[0], 'tcp_retransmits'); // each SYN and its repeats
  assert.ok(sent > failed);
  const lost = ['listen_overflows', 'listen_drops'].map((name) => counter(live, inodes[1], name));
  assert.deepEqual(lost, [sent, sent]);
});

test('traffic between two namespaces', { skip: NO_WIRE }, async (t) => {
  const { wire, inodes } = makePlace(t);
  const live = await startLive(t, ON);
  const [client, server] = wire.names;
  const words = { host: wire.addresses[1], datagrams: 3000, size: 100, reply: 1 };
  await talk(t, 'udp', words, words, { client, server });
  const names = ['packets_received', 'packets_sent', 'bytes_received', 'bytes_sent'];
  const bytes = 3000 * (20 + 8 + 100);
  const all = () => inodes.map((one) => names.map((name) => counter(live, one, name)));
  await live.collector.flush();
  // Beside the datagrams there is what IPv6 sends by itself when a wire goes up.
  for (const [i, value] of all().flat().entries()) {
    const least = i % 4 < 2 ? 3000 : bytes;
    assert.ok(value >= least && value < least + 6000, `${names[i % 4]} ${value}`);
  }
  assert.equal(counter(live, inodes[0], 'udp_no_port'), 0);
});

/** The host's own namespace counts from the start of sonde, not from the start of the host. */
test('datagrams to a port where nobody listens, on the host', { skip: NO_LIVE }, async (t) => {
  const live = await startLive(t, ON);
  const socket = createSocket('udp4');
  t.after(() => socket.close());
  for (let i = 0; i < 300; i += 1)
    await new Promise((done) => socket.send('x', 9, '127.0.0.1', done));
  const own = statSync('/proc/self/ns/net').ino;
  await live.collector.flush();
  const lost = counter(live, own, 'udp_no_port');
  assert.ok(lost >= 300 && lost < 100_000, `${lost}`);
});
