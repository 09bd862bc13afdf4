// Each of many short-lived processes, by the count of their parent; how processes end; arguments only if they are asked for.

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import test from 'node:test';
import { type FlowRow, type Live, NO_LIVE, settles, startLive } from '../../test/live.ts';
import { Traffic } from '../../test/traffic/traffic.ts';

const MANY = 24_000;
const ON = { collector: { probes: { process: { enabled: true } } } };

function events({ sink }: Live, match: Record<string, string | number>): readonly FlowRow[] {
  return sink.rows(match, 'process_event');
}

async function wait(live: Live, match: Record<string, string | number>): Promise<FlowRow> {
  await settles(
    () => live.collector.flush(),
    () => events(live, match).length,
    1,
  );
  return events(live, match)[0]!;
}

test(`${MANY} short-lived processes`, { skip: NO_LIVE }, async (t) => {
  // Room for all of it: on a busy machine the collector, which runs within this test, may come late.
  const live = await startLive(t, { collector: { ...ON.collector, ring_bytes: 32 << 20 } });
  const before_kb = process.memoryUsage().rss / 1024;
  const traffic = await Traffic.start(t, 'processes', { count: MANY });
  const [counts] = await traffic.counts();
  assert.equal(counts?.connections, MANY);
  const of = (event: string) => events(live, { event, ppid: traffic.pid });
  await settles(
    () => live.collector.flush(),
    () => [of('fork').length, of('exit').length],
    [MANY, MANY],
  );
  const codes = of('exit').map(({ exit_code }) => Number(exit_code));
  assert.equal(
    codes.reduce((sum, code) => sum + code, 0),
    counts?.bytes_read,
  );
  assert.ok(of('exit').every(({ exit_signal }) => exit_signal === ''));
  assert.equal(new Set(of('exit').map(({ pid }) => pid)).size, MANY);
  assert.deepEqual(live.collector.ledger.imbalance(), []);
  const lost = live.collector.ledger.rows().filter(({ outcome }) => outcome === 'dropped');
  assert.deepEqual(lost, []);
  const map = live.collector.kernel.map('process_ended');
  const keys = new Uint8Array(map.keySize * map.maxEntries);
  const left = map.readAll(keys, new Uint8Array(map.valueStride * map.maxEntries));
  assert.ok(left < 100, `${left} entries are left`);
  // The rows are kept by this test itself, some kilobytes each; the collector keeps none.
  const grown_kb = process.memoryUsage().rss / 1024 - before_kb;
  t.diagnostic(`grown by ${Math.round(grown_kb)} KiB, the test's own rows among them`);
});

test('processes that call exec', { skip: NO_LIVE }, async (t) => {
  const live = await startLive(t, ON);
  const traffic = await Traffic.start(t, 'processes', { count: 500, exec: '/bin/sh' });
  const [counts] = await traffic.counts();
  assert.equal(counts?.bytes_read, 3 * 500);
  const of = (event: string) => events(live, { event, ppid: traffic.pid });
  await settles(
    () => live.collector.flush(),
    () => ['fork', 'exec', 'exit'].map((event) => of(event).length),
    [500, 500, 500],
  );
  for (const row of of('exec')) {
    assert.deepEqual([row.process_executable_path, row.process_command_args], ['/bin/sh', '']);
    assert.equal(row.process_name, 'sh');
  }
  for (const row of of('exit')) assert.deepEqual([row.exit_code, row.exit_signal], [3, '']);
});

test('how processes end', { skip: NO_LIVE }, async (t) => {
  const live = await startLive(t, ON);
  const began = performance.now();
  const killed = spawn('sleep', ['100']);
  await once(killed, 'spawn');
  await new Promise((done) => setTimeout(done, 100));
  const least_ns = (performance.now() - began) * 1e6;
  killed.kill('SIGKILL');
  await once(killed, 'exit');
  const most_ns = (performance.now() - began) * 1e6 + 20e6;
  const end = await wait(live, { event: 'exit', pid: killed.pid! });
  assert.deepEqual(
    [end.exit_code, end.exit_signal, end.process_name, end.ppid],
    [-1, 'SIGKILL', 'sleep', process.pid],
  );
  const duration = Number(end.duration);
  assert.ok(duration > least_ns / 2 && duration < most_ns, `${least_ns} ${duration} ${most_ns}`);
  const aborted = spawn('sh', ['-c', 'kill -SEGV $$']);
  await once(aborted, 'exit');
  assert.equal((await wait(live, { event: 'exit', pid: aborted.pid! })).exit_signal, 'SIGSEGV');
});

test('a process of many threads ends once', { skip: NO_LIVE }, async (t) => {
  const live = await startLive(t, ON);
  const code =
    'for (let i = 0; i < 8; i += 1) new Worker("", { eval: true }); process.exitCode = 7';
  const words = ['-e', `const { Worker } = require("node:worker_threads"); ${code}`];
  const child = spawn(process.execPath, words, { stdio: 'ignore' });
  const [status] = await once(child, 'exit');
  assert.equal(status, 7);
  const end = await wait(live, { event: 'exit', pid: child.pid! });
  assert.equal(end.exit_code, 7);
  assert.equal(events(live, { event: 'fork', pid: child.pid! }).length, 1);
});

test('arguments, where they are asked for', { skip: NO_LIVE }, async (t) => {
  const asked = { ...ON.collector, process: { arguments: true } };
  const live = await startLive(t, { collector: asked });
  const long = 'y'.repeat(300);
  spawnSync('/bin/echo', ['a b', 'ü', '']);
  spawnSync('/bin/echo', [long]);
  const rows = () =>
    events(live, { event: 'exec', process_executable_path: '/bin/echo', ppid: process.pid });
  await settles(
    () => live.collector.flush(),
    () => rows().map((row) => row.process_command_args),
    ['/bin/echo a b ü ', `/bin/echo ${long.slice(0, 246)}…`],
  );
});
