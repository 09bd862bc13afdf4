// The table `scheduler`: what a process got of the processors, and how long it waited for them.

import { defineTable, type Measure } from '../../src/table/definition.ts';
import { sum } from '../columns.ts';
import { processDimensions } from '../process_columns.ts';

export const schedulerTable = defineTable({
  name: 'scheduler',
  help: 'processor time, waits for it, switches and migrations of processes, all threads together',
  kind: 'fold',
  dimensions: processDimensions,
  measures: [
    sum('cpu_time', 'ns', 'time on a processor'),
    sum('runqueue_wait', 'ns', 'time from runnable to running, as in /proc/<pid>/schedstat'),
    sum('runs', '1', 'times that a thread got a processor'),
    sum('switches_voluntary', '1', 'times that a thread gave it up to wait'),
    sum('switches_involuntary', '1', 'times that it was taken away: preempted, or yielded'),
    sum('migrations', '1', 'moves to another processor'),
    wait('wakeup_wait', 'waits that began when the thread woke or was new'),
    wait('preempted_wait', 'waits that began when another was preferred'),
  ],
  rows_max: 16384,
});

function wait(name: string, what: string): Measure {
  const help = `${what}; empty unless collector.scheduler.latency is set`;
  return { name, type: 'u64', unit: 'ns', fold: 'histogram', scale: 0, help };
}
