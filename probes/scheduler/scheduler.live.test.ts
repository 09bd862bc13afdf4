// What the scheduler gave processes, against what the kernel says of them in /proc, exactly.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import test from 'node:test';
import { MapBuffer } from '../../src/bpf/map.ts';
import { type Live, lacks, NO_LIVE, settles, startLive } from '../../test/live.ts';
import { Spend } from '../../test/spend/spend.ts';
import { pair } from '../kernel_maps.ts';
import { TOTALS_MAPS } from '../task_totals.ts';

const TOTALS = [
  'cpu_time',
  'runqueue_wait',
  'runs',
  'switches_voluntary',
  'switches_involuntary',
] as const;

type Totals = Record<(typeof TOTALS)[number], number>;

/** All threads of a process, by /proc. */
function truth(pid: number): Totals {
  const sums: Totals = {
    cpu_time: 0,
    runqueue_wait: 0,
    runs: 0,
    switches_voluntary: 0,
    switches_involuntary: 0,
  };
  for (const tid of readdirSync(`/proc/${pid}/task`)) {
    const folder = `/proc/${pid}/task/${tid}`;
    const [cpu, wait, runs] = readFileSync(`${folder}/schedstat`, 'utf8').split(' ').map(Number);
    const status = readFileSync(`${folder}/status`, 'utf8');
    sums.cpu_time += cpu!;
    sums.runqueue_wait += wait!;
    sums.runs += runs!;
    sums.switches_voluntary += Number(/^voluntary_ctxt_switches:\s*(\d+)/m.exec(status)?.[1]);
    sums.switches_involuntary += Number(/^nonvoluntary_ctxt_switches:\s*(\d+)/m.exec(status)?.[1]);
  }
  return sums;
}

function seen({ sink }: Live, pid: number): Totals {
  return sink.total({ pid }, TOTALS, 'scheduler') as Totals; // the names are those asked for
}

test('what processes got of the processors', { skip: NO_LIVE }, async (t) => {
  const live = await startLive(t, { collector: { scheduler: { latency: true } } });
  const missing = lacks(live, 'scheduler', 'latency');
  if (missing) return t.skip(missing);
  for (const mode of ['switches', 'calls'] as const) {
    await t.test(`totals of a process: ${mode}`, async (t) => {
      const spend = Spend.start(t, mode, 20_000, 2000);
      const spent = await spend.spent;
      const pids = 'child' in spent ? [spent.pid, spent.child!] : [spent.pid];
      for (const pid of pids) {
        await settles(
          () => live.collector.flush(),
          () => seen(live, pid),
          truth(pid),
        );
        assert.ok(truth(pid).runs > 0);
      }
      const [row] = live.sink.rows({ pid: spent.pid }, 'scheduler');
      assert.equal(row?.process_name, 'spend');
      await spend.end();
    });
  }
  await t.test('each wait, by cause', async (t) => {
    const spend = Spend.start(t, 'switches', 20_000, 2000);
    const { pid } = await spend.spent;
    await settles(
      () => live.collector.flush(),
      () => seen(live, pid),
      truth(pid),
    );
    const row = live.sink.rows({ pid }, 'scheduler')[0]!;
    const of = (what: string): number => Number(row[what] ?? 0);
    const waits = of('wakeup_wait_count') + of('preempted_wait_count');
    // Of switches from a process that the kernel hides from tracing none is seen: the next wait then holds two.
    const hidden = of('runs') - waits;
    assert.ok(hidden >= 0 && hidden <= of('runs') / 100, `${hidden} of ${of('runs')}`);
    if (hidden > 0) return t.diagnostic(`${hidden} switches were hidden`);
    assert.equal(of('wakeup_wait_sum') + of('preempted_wait_sum'), of('runqueue_wait'));
    assert.equal(of('preempted_wait_count'), of('switches_involuntary'));
    await spend.end();
  });
  await t.test('processes that end at once: all of them, and nothing stays', async (t) => {
    const count = 1000;
    const before = new Set(live.sink.rows({}, 'scheduler').map(({ pid }) => pid));
    const spend = Spend.start(t, 'children', count);
    const spent = await spend.spent;
    await spend.end();
    const children = () =>
      live.sink
        .rows({ process_name: 'spend' }, 'scheduler')
        .filter(({ pid }) => !before.has(pid!) && pid !== spent.pid);
    await settles(
      () => live.collector.flush(),
      () => children().length,
      count,
    );
    const sum = children().reduce((all, row) => all + Number(row.switches_voluntary), 0);
    // The kernel may tell a parent of a child's end before that child's last switch.
    assert.ok(sum >= spent.voluntary! && sum <= spent.voluntary! + count, `${sum} switches`);
    await live.collector.flush();
    const gone = new Set(children().map(({ pid }) => pid));
    for (const name of [...TOTALS_MAPS, ...pair('sched_waits')]) {
      if (name === 'task_seen') continue; // ends with its task
      assert.deepEqual(
        keysOf(live, name).filter((pid) => gone.has(pid)),
        [],
        name,
      );
    }
  });
});

/** Pids that a map of the kernel holds now. */
function keysOf({ collector }: Live, name: string): readonly number[] {
  const buffer = new MapBuffer(collector.kernel.map(name));
  const count = buffer.read();
  return [...new Uint32Array(buffer.keys.buffer, 0, count)];
}
