// A source over its budget: it falls back step by step, counts all that the step says it counts, says so, and comes back.

import assert from 'node:assert/strict';
import test from 'node:test';
import { level_source } from '../../probes/layout.gen.ts';
import { type Live, type Match, NO_LIVE, settles, startLive } from '../../test/live.ts';
import { Spend } from '../../test/spend/spend.ts';
import { type Cleanup, talk } from '../../test/traffic/traffic.ts';
import type { Collector } from './collector.ts';

const TCP_WORDS = { connections: 20 };
const CALLS = 100_000;
const WORDS = { datagrams: 500, reply: 1, call: 'recvfrom' };

const OTHER = { direction: ['incoming', 'outgoing'], transport: 'udp', src_ip: '<other>' };
const COUNTS = ['packets_read', 'packets_written', 'bytes_read', 'bytes_written'] as const;

async function send(t: Cleanup) {
  const done = await talk(t, 'udp', WORDS, WORDS);
  const sum = (of: 'datagrams_read' | 'datagrams_written' | 'bytes_read' | 'bytes_written') =>
    [...done.server, ...done.client].reduce((total, one) => total + one[of], 0);
  return {
    port: done.port,
    expected: {
      packets_read: sum('datagrams_read'),
      packets_written: sum('datagrams_written'),
      bytes_read: sum('bytes_read'),
      bytes_written: sum('bytes_written'),
    },
  };
}

function atPort({ sink }: Live, port: number) {
  const total = (match: object) => sink.total({ transport: 'udp', ...match }, COUNTS);
  const [incoming, outgoing] = [total({ src_port: port }), total({ dst_port: port })];
  return Object.fromEntries(COUNTS.map((name) => [name, incoming[name]! + outgoing[name]!]));
}

function booked({ ledger }: Collector, table = 'udp_over_budget'): number {
  const found = ledger.rows().find((row) => row.table === table && row.outcome === 'folded');
  return found?.count ?? 0;
}

test('totals instead of flows: every datagram is in them', { skip: NO_LIVE }, async (t) => {
  const live = await startLive(t, { collector: { probes: { udp: { enabled: true } } } });
  const { collector, sink } = live;
  collector.kernel.writeLevel(level_source.LEVEL_UDP, 1);
  const { port, expected } = await send(t);
  collector.kernel.writeLevel(level_source.LEVEL_UDP, 0);
  await collector.flush();
  await collector.flush();
  const totals = sink.total(OTHER, COUNTS);
  // Others' datagrams of this moment are in them as well; the ledger knows of all.
  for (const name of COUNTS) assert.ok(totals[name]! >= expected[name], `${name} ${totals[name]}`);
  assert.equal(totals.packets_read! + totals.packets_written!, booked(collector));
  assert.deepEqual(sink.views('udp', port), []);
  const whole = await send(t);
  await settles(
    () => collector.flush(),
    () => atPort(live, whole.port),
    whole.expected,
  );
});

test('one system call in 16 by process, all by name', { skip: NO_LIVE }, async (t) => {
  const live = await startLive(t, { collector: { probes: { syscalls: { enabled: true } } } });
  const { collector, sink } = live;
  collector.kernel.writeLevel(level_source.LEVEL_SYSCALLS, 1);
  const spend = Spend.start(t, 'calls', CALLS);
  const { pid, getppid } = await spend.spent;
  await spend.end();
  // From here on none is folded: what was is in the rows and in the ledger, whoever reads which first.
  collector.kernel.writeLevel(level_source.LEVEL_SYSCALLS, 0);
  await collector.flush();
  await collector.flush();
  const calls = (match: Match) => sink.total(match, ['calls'], 'syscall').calls!;
  const own = calls({ pid, syscall: 'getppid' });
  // A mean of one in 16, and more than ten standard deviations on either side.
  assert.ok(own > CALLS / 20 && own < CALLS / 13, `${own} of ${getppid}`);
  const others = calls({ process_name: '<other>', syscall: 'getppid' });
  assert.ok(own + others >= getppid!, `${own} + ${others} of ${getppid}`);
  assert.equal(calls({ process_name: '<other>' }), booked(collector, 'syscalls_over_budget'));
});

test('a tiny budget: down to off, and back when it is lifted', { skip: NO_LIVE }, async (t) => {
  const live = await startLive(t, { collector: { interval: 200, budget: { cpu: 1e-9 } } });
  const { collector, sink, config } = live;
  const level = async (source: string) => {
    await collector.flush();
    return sink.rows({ source }, 'sonde_cost').at(-1)?.level;
  };
  const until = async (wanted: number, source = 'udp'): Promise<void> => {
    const end = Date.now() + 300_000; // reaching it is a failure, not slowness
    while ((await level(source)) !== wanted) {
      assert.ok(Date.now() < end, `${source} at level ${await level(source)}`);
      await send(t);
      await talk(t, 'tcp', TCP_WORDS, TCP_WORDS);
    }
  };
  await until(2);
  await until(1, 'tcp');
  const off = sink.rows({ source: 'udp', state: 'off' }, 'sonde_source');
  assert.match(String(off.at(-1)?.reason), /over budget: .* of a processor, of 1e-7% allowed/);
  const reduced = sink.rows({ source: 'udp', state: 'reduced' }, 'sonde_source');
  assert.equal(reduced.at(-1)?.variant, 'totals');
  assert.deepEqual(sink.views('udp', (await send(t)).port), []);
  collector.reload({ ...config, collector: { ...config.collector, budget: {} } });
  await until(0);
  const whole = await send(t);
  await settles(
    () => collector.flush(),
    () => atPort(live, whole.port),
    whole.expected,
  );
  await until(0, 'tcp');
  const { port, server, client } = await talk(t, 'tcp', TCP_WORDS, TCP_WORDS);
  await settles(
    () => collector.flush(),
    () => sink.views('tcp', port).map((row) => [row.pid, row.tcp_closed, row.bytes_written]),
    [...server, ...client].map((one) => [one.pid, one.connections, one.bytes_written]),
  );
});
