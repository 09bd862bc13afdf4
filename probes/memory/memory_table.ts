// The tables `memory`, what processes ask of it, and `oom_kill`, those that the kernel ended for want of it.

import { type Dimension, defineTable } from '../../src/table/definition.ts';
import { sum } from '../columns.ts';
import { processDimensions } from '../process_columns.ts';

const off = 'empty unless collector.memory.allocations is set';

export const memoryTable = defineTable({
  name: 'memory',
  help: 'page faults and allocations of processes, all threads together',
  kind: 'fold',
  dimensions: processDimensions,
  measures: [
    sum('faults_minor', '1', 'page faults served from memory'),
    sum('faults_major', '1', 'page faults that had to wait for a disk'),
    sum('allocations', '1', `calls of the page allocator while the process ran; ${off}`),
    sum('allocated_pages', '1', `pages that they were given; ${off}`),
    sum('allocation_failures', '1', `calls that were given none; ${off}`),
  ],
  rows_max: 16384,
});

const victim: readonly Dimension[] = [
  { name: 'comm', type: 'string', help: 'name of the thread that the kernel chose' },
  { name: 'uid', type: 'u32', help: 'user id of the process, as the host numbers it' },
  { name: 'oom_score_adj', type: 'i32', help: "the process's own say in the choice" },
  { name: 'by_pid', type: 'u32', help: 'process that asked for the memory that was not there' },
  { name: 'by_comm', type: 'string', help: 'name of its thread' },
];

export const oomTable = defineTable({
  name: 'oom_kill',
  help: 'processes that the kernel ended because memory ran out, of the host or of a cgroup',
  kind: 'event',
  dimensions: [...processDimensions, ...victim],
  measures: [
    sum('kills', '1', 'always 1'),
    sum('total_vm', 'By', 'size of its address space'),
    sum('anon_rss', 'By', 'anonymous memory that it held'),
    sum('file_rss', 'By', 'memory of files that it held'),
    sum('shmem_rss', 'By', 'shared memory that it held'),
  ],
  rows_max: 1024,
});

/** Filled by the collector itself (src/collector/pressure.ts), from files, where the kernel keeps pressure (PSI). */
export const pressureTable = defineTable({
  name: 'pressure',
  help: 'time in which tasks of a control group stood still for want of a resource',
  kind: 'fold',
  dimensions: [
    { name: 'cgroup_path', type: 'string', help: 'path of the control group; /: the whole host' },
    { name: 'container_id', type: 'string', help: 'container, where the cgroup path names one' },
    {
      name: 'resource',
      type: 'string',
      values: ['memory', 'cpu', 'io', '<other>'],
      help: 'what was wanted',
    },
  ],
  measures: [
    sum('some', 'us', 'time in which at least one task waited'),
    sum('full', 'us', 'time in which all that were not idle did'),
  ],
  rows_max: 8192,
});
