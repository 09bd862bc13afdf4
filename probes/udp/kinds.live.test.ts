// UDP sockets that several processes have, that are silent for long, or whose ends only the datagrams themselves name.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import test from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { type Live, NO_LIVE, type Sink, settles, sorted, startLive } from '../../test/live.ts';
import {
  type Cleanup,
  type Counts,
  haveIp,
  makeNamespaces,
  Traffic,
  type Words,
} from '../../test/traffic/traffic.ts';

interface Done {
  readonly port: number;
  readonly counts: readonly Counts[];
}

async function run(t: Cleanup, words: Words, netns?: string): Promise<Done> {
  const place = netns === undefined ? {} : { netns };
  const traffic = await Traffic.start(t, 'sockets', words, place);
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

/** Both ends of a question and its answer: at the client, and at the server. */
const ENDS: readonly { name: string; words: Words; client: string; server: string }[] = [
  {
    name: 'sent to the unspecified address',
    words: { as: 'udp_unnamed' },
    client: '127.0.0.1',
    server: '127.0.0.1',
  },
  {
    name: 'sent to the unspecified address of IPv6',
    words: { as: 'udp_unnamed', host: '::1' },
    client: '::1',
    server: '::1',
  },
  {
    name: 'sent to the unspecified address by a bound socket',
    words: { as: 'udp_unnamed', host: '127.0.0.6', from: '127.0.0.6' },
    client: '127.0.0.6',
    server: '127.0.0.6',
  },
  {
    name: 'sent from an address that the call names',
    words: { as: 'udp_source', from: '127.0.0.5' },
    client: '127.0.0.5',
    server: '127.0.0.1',
  },
];

/** At a port: direction, both addresses, bytes read and written. */
function ends(sink: Sink, port: number): () => unknown {
  return () =>
    [...sink.rows({ src_port: port }), ...sink.rows({ dst_port: port })]
      .filter(({ transport }) => transport === 'udp')
      .map((row) => [row.direction, row.src_ip, row.dst_ip, row.bytes_read, row.bytes_written])
      .sort();
}

function between(client: string, server: string): unknown {
  return [
    ['incoming', server, client, 10, 20],
    ['outgoing', client, server, 20, 10],
  ];
}

test('ends that the datagrams name', { skip: NO_LIVE }, async (t) => {
  const live = await startLive(t);
  const { sink, collector } = live;
  for (const { name, words, client, server } of ENDS) {
    await t.test(name, { skip: countsPackets(live) }, async (t) => {
      const { port } = await run(t, words);
      await settles(() => collector.flush(), ends(sink, port), between(client, server));
    });
  }
  const skip = countsPackets(live) || (!haveIp() && 'needs ip');
  await t.test('sent from an address of IPv6 that the call names', { skip }, async (t) => {
    const wire = makeNamespaces(`udp-kinds-${process.pid}`);
    t.after(() => wire.remove());
    const [netns] = wire.names;
    const from = 'fd00:77::5';
    execFileSync('ip', ['-n', netns, 'addr', 'add', `${from}/128`, 'dev', 'lo', 'nodad']);
    const { port } = await run(t, { as: 'udp_source', host: '::1', from }, netns);
    await settles(() => collector.flush(), ends(sink, port), between(from, '::1'));
  });
  await t.test('looked at, and not taken: no peer of the next', async (t) => {
    const { port, counts } = await run(t, { as: 'udp_peek' });
    const pid = counts[0]!.pid;
    const view = (): unknown => sink.total({ pid, dst_port: port }, ['bytes_written']);
    await settles(() => collector.flush(), view, { bytes_written: 20 });
  });
});

/** Why ends are those of packets, which always have them; false: calls are counted. */
function countsPackets({ collector }: Live): string | false {
  const udp = collector.kernel.plan.sources.find(({ source }) => source === 'udp');
  const datagrams = udp?.parts.find(({ part }) => part === 'datagrams');
  return datagrams?.variant !== 'socket calls' && `udp, datagrams: ${datagrams?.reason}`;
}
