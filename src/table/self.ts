// Tables in which the collector reports on itself: what it costs, and what it can and cannot see.

import { defineTable } from './definition.ts';

export const processTable = defineTable({
  name: 'sonde_process',
  help: 'what the processes of sonde themselves cost',
  kind: 'fold',
  rows_max: 16,
  dimensions: [{ name: 'role', type: 'string', help: 'collector or reducer' }],
  measures: [
    {
      name: 'cpu_time',
      type: 'u64',
      unit: 'us',
      fold: 'sum',
      help: 'processor time, user and system',
    },
    { name: 'memory_rss', type: 'u64', unit: 'By', fold: 'last', help: 'resident memory' },
    {
      name: 'kernel_memory',
      type: 'u64',
      unit: 'By',
      fold: 'last',
      help: 'memory of the BPF maps',
    },
    {
      name: 'ring_used',
      type: 'u64',
      unit: 'By',
      fold: 'max',
      help: 'most of the ring that was in use',
    },
    { name: 'spool_used', type: 'u64', unit: 'By', fold: 'last', help: 'disk space of the spool' },
    { name: 'batches_waiting', type: 'u64', unit: '1', fold: 'last', help: 'not acknowledged yet' },
    {
      name: 'processes_known',
      type: 'u64',
      unit: '1',
      fold: 'last',
      help: 'processes with a name',
    },
  ],
});

export const programTable = defineTable({
  name: 'sonde_program',
  help: 'what each kernel program costs, sampled for a tenth of a second each interval',
  kind: 'fold',
  rows_max: 256,
  dimensions: [{ name: 'program', type: 'string', help: 'name of the BPF program' }],
  measures: [
    {
      name: 'missed',
      type: 'u64',
      unit: '1',
      fold: 'sum',
      help: 'runs that the kernel skipped, since the program would have interrupted itself',
    },
    { name: 'runs', type: 'u64', unit: '1', fold: 'sum', help: 'runs while sampled' },
    {
      name: 'run_time',
      type: 'u64',
      unit: 'ns',
      fold: 'sum',
      help: 'time of these runs; the kernel adds some 35 ns of its own measuring to each',
    },
  ],
});

export const sourceTable = defineTable({
  name: 'sonde_source',
  help: 'the capability report: each part of each source, and why it is not on',
  kind: 'fold',
  rows_max: 256,
  dimensions: [
    { name: 'source', type: 'string', help: 'name of the source' },
    { name: 'part', type: 'string', help: 'part of its work' },
    {
      name: 'state',
      type: 'string',
      values: ['on', 'off', 'unsupported', 'failed', 'reduced', '<other>'],
      help: 'what became of it; reduced: it fell back for its budget, to the step in variant',
    },
    { name: 'variant', type: 'string', help: 'the way of doing it that this kernel takes' },
    { name: 'reason', type: 'string', help: 'why not, or what this variant cannot see' },
  ],
  measures: [{ name: 'up', type: 'u64', unit: '1', fold: 'last', help: '1 where the state is on' }],
});

export const costTable = defineTable({
  name: 'sonde_cost',
  help: 'what the kernel programs of each source cost, sampled as sonde_program is, and what its budget made of it',
  kind: 'fold',
  rows_max: 64,
  dimensions: [{ name: 'source', type: 'string', help: 'name of the source' }],
  measures: [
    {
      name: 'kernel_time',
      type: 'u64',
      unit: 'ns',
      fold: 'last',
      help: 'time of its programs in each second, without that of measuring; shared ones by halves',
    },
    { name: 'run_time', type: 'u64', unit: 'ns', fold: 'last', help: 'time of one run, as a mean' },
    {
      name: 'level',
      type: 'u64',
      unit: '1',
      fold: 'last',
      help: '0: it does all its work; more: steps that it fell back for its budget',
    },
    { name: 'falls', type: 'u64', unit: '1', fold: 'sum', help: 'steps down for its budget' },
    { name: 'rises', type: 'u64', unit: '1', fold: 'sum', help: 'steps up again' },
  ],
});

export const selfTables = [processTable, programTable, sourceTable, costTable] as const;
