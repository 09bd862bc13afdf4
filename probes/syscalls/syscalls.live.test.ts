// System calls against programs that count their own, exactly: also while the collector takes the kernel's totals all the
// time, which is when a count could be lost.

import assert from 'node:assert/strict';
import test from 'node:test';
import { type Live, lacks, NO_LIVE, settles, startLive } from '../../test/live.ts';
import { Spend, type Spent } from '../../test/spend/spend.ts';

const ON = { syscalls: { enabled: true } };
const COUNT = 100_000;
const BUSY_COUNT = 3_000_000;

/** Calls and errors of one process by name of the call and of the error. */
function callsOf({ sink }: Live, pid: number, names: readonly string[]): Record<string, number> {
  const sums: Record<string, number> = {};
  for (const row of sink.rows({ pid, syscall: names }, 'syscall')) {
    sums[`${row.syscall} ${row.error_type}`.trim()] = Number(row.calls);
  }
  return sums;
}

function expected({ getppid, fchdir, chdir }: Spent): Record<string, number> {
  return { getppid: getppid!, 'fchdir EBADF': fchdir!, 'chdir ENOENT': chdir! };
}

const MANY = 24;
const MANY_COUNT = 40_000;

const NAMES = ['getppid', 'fchdir', 'chdir'];

/** What `work` gives, while the totals are taken all the time. */
async function flushed<Result>(
  { collector }: Live,
  work: Promise<Result>,
  flushes_min: number,
): Promise<Result> {
  let done = false;
  const all = work.finally(() => {
    done = true;
  });
  let flushes = 0;
  for (; !done; flushes += 1) await collector.flush();
  assert.ok(flushes >= flushes_min, `only ${flushes} flushes under load`);
  return all;
}

test('system calls, counted', { skip: NO_LIVE }, async (t) => {
  const live = await startLive(t, { collector: { probes: ON } });
  await t.test('calls and errors of a process', async (t) => {
    const spend = Spend.start(t, 'calls', COUNT);
    const spent = await spend.spent;
    const sums = () => callsOf(live, spent.pid, NAMES);
    await settles(() => live.collector.flush(), sums, expected(spent));
    const rows = live.sink.rows({ pid: spent.pid, syscall: 'getppid' }, 'syscall');
    assert.deepEqual(
      rows.map((row) => [row.process_name, row.errors]),
      [['spend', 0]],
    );
    await spend.end();
  });
  await t.test('nothing is lost while totals are taken under load', async (t) => {
    const spends = [Spend.start(t, 'calls', BUSY_COUNT), Spend.start(t, 'calls', BUSY_COUNT)];
    const spents = await flushed(live, Promise.all(spends.map((spend) => spend.spent)), 6);
    for (const one of spents) {
      const sums = () => callsOf(live, one.pid, NAMES);
      await settles(() => live.collector.flush(), sums, expected(one));
    }
  });
  await t.test('more processes at a time than a CPU has slots for their calls', async (t) => {
    const spends = Array.from({ length: MANY }, () => Spend.start(t, 'calls', MANY_COUNT));
    const spents = await flushed(live, Promise.all(spends.map((spend) => spend.spent)), 1);
    for (const spent of spents) {
      const sums = () => callsOf(live, spent.pid, NAMES);
      await settles(() => live.collector.flush(), sums, expected(spent));
    }
  });
});

test('system calls, timed', { skip: NO_LIVE }, async (t) => {
  const sleep_us = 1000;
  const timed = { probes: ON, syscalls: { latency: true } };
  const live = await startLive(t, { collector: timed });
  const missing = lacks(live, 'syscalls', 'latency');
  if (missing) return t.skip(missing);
  const spend = Spend.start(t, 'sleeps', 100, sleep_us);
  const { pid, sleeps } = await spend.spent;
  const row = () => live.sink.rows({ pid, syscall: 'clock_nanosleep' }, 'syscall')[0];
  const counts = () => [Number(row()?.calls), Number(row()?.latency_count)];
  await settles(() => live.collector.flush(), counts, [sleeps!, sleeps!]);
  const mean_ns = Number(row()!.latency_sum) / sleeps!;
  assert.ok(mean_ns >= sleep_us * 1000, `${mean_ns} ns for sleeps of ${sleep_us} µs`);
  // 2^19 ns < 1 ms < 2^20 ns: none in a bucket below.
  const buckets = Object.keys(row()!).flatMap((name) => /_bucket_(-?\d+)$/.exec(name)?.[1] ?? []);
  assert.ok(buckets.length > 0 && buckets.every((bucket) => Number(bucket) >= 19), `${buckets}`);
});
