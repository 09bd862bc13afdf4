// How a collector comes and goes: alone on its pins, with a source that fails, and without a trace.

import assert from 'node:assert/strict';
import { existsSync, readdirSync, readlinkSync } from 'node:fs';
import test from 'node:test';
import {
  type FlowRow,
  liveConfig,
  liveFolders,
  NO_LIVE,
  Sink,
  settles,
  startCollector,
  startLive,
} from '../../test/live.ts';
import { talk } from '../../test/traffic/traffic.ts';
import { OperatorError } from '../wire/error.ts';

/** Descriptors of programs, maps and links: with the pins all that can keep them in the kernel. */
function bpfDescriptors(): readonly string[] {
  return readdirSync('/proc/self/fd')
    .map((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`);
      } catch {
        return ''; // the one that listed the folder
      }
    })
    .filter((target) => /bpf/.test(target));
}

test('after stop nothing is attached or pinned', { skip: NO_LIVE }, async (t) => {
  const sink = await Sink.listen();
  t.after(() => sink.close());
  const { data_dir, pin_path } = liveFolders(t);
  const before = bpfDescriptors();
  const collector = await startCollector(liveConfig(data_dir, pin_path), sink);
  assert.ok(bpfDescriptors().length > before.length);
  assert.ok(existsSync(pin_path));
  await collector.stop(5000);
  await collector.stop(5000); // has nothing left to do
  assert.equal(existsSync(pin_path), false);
  assert.deepEqual(bpfDescriptors(), before);
});

test('after abandon nothing is attached or pinned', { skip: NO_LIVE }, async (t) => {
  const { collector, config } = await startLive(t);
  const links = (): number => bpfDescriptors().filter((target) => target.includes('link')).length;
  assert.ok(links() > 0);
  assert.ok(existsSync(config.collector.pin_path));
  collector.abandon();
  assert.equal(links(), 0);
  assert.equal(existsSync(config.collector.pin_path), false);
});

test('a second collector on the same pins is refused', { skip: NO_LIVE }, async (t) => {
  const { sink, config } = await startLive(t);
  const { data_dir } = liveFolders(t);
  await assert.rejects(
    () => startCollector({ ...config, data_dir }, sink),
    (error) => error instanceof OperatorError && error.code === 'pins_in_use',
  );
  await assert.rejects(
    () =>
      startCollector(
        {
          ...config,
          collector: { ...config.collector, pin_path: `${config.collector.pin_path}-2` },
        },
        sink,
      ),
    (error) => error instanceof OperatorError,
    'two collectors have one data folder',
  );
});

const PORTS = { tcp: 'tcp', udp: 'udp' } as const;

for (const failing of ['tcp', 'udp'] as const) {
  const other = failing === 'tcp' ? PORTS.udp : PORTS.tcp;
  test(`with ${failing} made to fail, ${other} is exact`, { skip: NO_LIVE }, async (t) => {
    const { sink, collector } = await startLive(t, { collector: { fail_sources: [failing] } });
    const states = Object.fromEntries(
      collector.kernel.plan.sources.map(({ source, state }) => [source, state]),
    );
    assert.deepEqual([states[failing], states[other]], ['failed', 'on']);
    const tcp = await talk(t, 'tcp', { connections: 500 }, { connections: 500 });
    const words = { datagrams: 500, reply: 1, call: 'recvfrom' };
    const udp = await talk(t, 'udp', words, words);
    const bytes = (rows: readonly FlowRow[]) =>
      rows.map((row) => [row.bytes_read, row.bytes_written]);
    const seen = (): unknown => [
      bytes(sink.views('tcp', tcp.port)),
      bytes(sink.views('udp', udp.port)),
    ];
    const all = {
      tcp: [tcp.server[0]!, tcp.client[0]!].map((one) => [one.bytes_read, one.bytes_written]),
      udp: [udp.server[0]!, udp.client[0]!].map((one) => [one.bytes_read, one.bytes_written]),
    };
    const expected = other === 'tcp' ? [all.tcp, []] : [[], all.udp];
    await settles(() => collector.flush(), seen, expected);
  });
}
