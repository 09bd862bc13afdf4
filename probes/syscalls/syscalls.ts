// The probe of system calls as data, and the decoder of its maps; the kernel part is syscalls.bpf.h.

import { defineTable } from '../../src/table/definition.ts';
import type { Fold } from '../../src/table/fold.ts';
import type {
  DecodeContext,
  MapDecoder,
  MapEntries,
  MapSource,
  Probe,
  ProbeOptions,
} from '../../src/table/probe.ts';
import { errnoName } from '../errno.ts';
import { front, frontOf, pair, sizes, TASK_STORAGE } from '../kernel_maps.ts';
import {
  level_source,
  owner,
  syscall_key,
  syscall_rest,
  syscall_sums,
  syscall_times,
  syscalls_slot,
} from '../layout.gen.ts';
import { ProcessColumns, processDimensions, u64, viewOf } from '../process_columns.ts';
import { addSlots } from '../slots.ts';
import { syscallName } from './names.ts';

/** Positions of the columns. */
const SYSCALL = processDimensions.length;
const ERROR = SYSCALL + 1;
const CALLS = 0;
const ERRORS = 1;
const LATENCY = 2;

export const syscallTable = defineTable({
  name: 'syscall',
  help: 'system calls that returned, by process, call and result',
  kind: 'fold',
  dimensions: [
    ...processDimensions,
    { name: 'syscall', type: 'string', help: 'name of the call' },
    { name: 'error_type', type: 'string', help: 'ENOENT …; empty: the call succeeded' },
  ],
  measures: [
    { name: 'calls', type: 'u64', unit: '1', fold: 'sum', help: 'calls that returned' },
    { name: 'errors', type: 'u64', unit: '1', fold: 'sum', help: 'those that returned an error' },
    {
      name: 'latency',
      type: 'u64',
      unit: 'ns',
      fold: 'histogram',
      scale: 0,
      help: 'from entry to return; empty unless collector.syscalls.latency is set',
    },
  ],
  rows_max: 32768,
});

/** Entries of `syscalls` and `syscall_lat`, which differ in where the latency is, if any. */
class SyscallDecoder implements MapDecoder {
  readonly #fold: Fold;
  readonly #process: ProcessColumns;
  /** The offsets in a value; of its histogram where it has one. */
  readonly #value: {
    readonly owner_start_ns: number;
    readonly calls: number;
    readonly latency_sum?: number;
  };
  readonly #dims = new Float64Array(syscallTable.dimensions.length);
  readonly #measures = new Float64Array(syscallTable.measures.length);

  constructor(context: DecodeContext, value: typeof syscall_sums | typeof syscall_times) {
    this.#fold = context.fold(syscallTable);
    this.#process = new ProcessColumns(context, this.#fold);
    this.#value = value;
  }

  rows({ count, keys, values, key_size, value_stride }: MapEntries): void {
    const key_view = viewOf(keys);
    const value_view = viewOf(values);
    for (let i = 0; i < count; i += 1) {
      this.#row(key_view, i * key_size, value_view, i * value_stride);
    }
  }

  #row(keys: DataView, key: number, values: DataView, value: number): void {
    const dims = this.#dims;
    const measures = this.#measures;
    const error = keys.getUint16(key + syscall_key.error, true);
    const calls = u64(values, value + this.#value.calls);
    if (calls === 0) return; // made by a program that another kept from its first count
    this.#process.fill(dims, values, value + this.#value.owner_start_ns, owner);
    dims[0] = keys.getUint32(key + syscall_key.tgid, true);
    dims[SYSCALL] = this.#process.word(syscallName(keys.getUint16(key + syscall_key.nr, true)));
    dims[ERROR] = this.#process.word(errnoName(error));
    measures[CALLS] = calls;
    measures[ERRORS] = error === 0 ? 0 : calls;
    measures[LATENCY] = Number.NaN;
    const row = this.#fold.addRow(dims, measures, 0);
    const { latency_sum } = this.#value;
    if (latency_sum === undefined) return;
    addSlots(this.#fold, row, LATENCY, values, value + latency_sum);
  }
}

/** Calls of processes for which the kernel's map had no room: which calls, but not whose. */
class RestDecoder implements MapDecoder {
  readonly #fold: Fold;
  readonly #process: ProcessColumns;
  readonly #dims = new Float64Array(syscallTable.dimensions.length);

  constructor(context: DecodeContext) {
    this.#fold = context.fold(syscallTable);
    this.#process = new ProcessColumns(context, this.#fold);
  }

  rows({ count, keys, values, key_size, value_stride }: MapEntries): void {
    const key_view = viewOf(keys);
    const value_view = viewOf(values);
    this.#process.fillOther(this.#dims);
    for (let i = 0; i < count; i += 1) {
      const calls = u64(value_view, i * value_stride + syscall_rest.calls);
      const errors = u64(value_view, i * value_stride + syscall_rest.errors);
      const name = syscallName(key_view.getUint32(i * key_size, true));
      this.#dims[SYSCALL] = this.#process.word(name);
      this.#dims[ERROR] = this.#process.word('');
      if (calls > errors)
        this.#fold.add(this.#dims, Float64Array.of(calls - errors, 0, Number.NaN));
      this.#dims[ERROR] = this.#process.word('<other>');
      if (errors > 0) this.#fold.add(this.#dims, Float64Array.of(errors, errors, Number.NaN));
    }
  }
}

const mapSources: readonly MapSource[] = [
  {
    map: 'syscalls',
    read: 'turns',
    front: front('syscalls', syscalls_slot, syscall_sums.calls),
    open: (context) => new SyscallDecoder(context, syscall_sums),
  },
  {
    map: 'syscall_lat',
    read: 'turns',
    open: (context) => new SyscallDecoder(context, syscall_times),
  },
  { map: 'syscall_rest', read: 'turns', open: (context) => new RestDecoder(context) },
];

const timed = ({ syscalls }: Readonly<ProbeOptions>): boolean => syscalls.latency;

export const syscalls: Probe = {
  name: 'syscalls',
  help: 'every system call of every process: how often, with what result, how long if asked for',
  enabled_default: false,
  tables: [syscallTable],
  enabled_variable: 'syscalls_enabled',
  rights: ['CAP_BPF', 'CAP_PERFMON'],
  parts: [
    {
      name: 'calls',
      help: 'calls and errors, where a call returns',
      required: true,
      variants: [
        { name: 'tp_btf', programs: ['sys_exit'], needs: ['tp:sys_exit', ...TASK_STORAGE] },
        {
          name: 'tp_btf without task storage',
          programs: ['sys_exit_510'],
          needs: ['tp:sys_exit'],
          misses: 'latency',
        },
      ],
    },
    {
      name: 'latency',
      help: 'how long each call took',
      required: false,
      wanted: timed,
      own_maps: [...pair('syscall_lat'), 'syscall_begun'],
      variants: [
        { name: 'tp_btf', programs: ['sys_enter'], needs: ['tp:sys_enter', ...TASK_STORAGE] },
      ],
    },
  ],
  sweeps: [],
  reducible: {
    slot: level_source.LEVEL_SYSCALLS,
    steps: [
      {
        name: 'sampled',
        help: 'one call in 16 with its process, the others by call alone in rows with <other>; no latency',
      },
      { name: 'totals', help: 'all calls and errors, by call alone; no processes, no latency' },
    ],
  },
  map_sources: mapSources,
  own_maps: [...pair('syscalls'), frontOf('syscalls'), ...pair('syscall_rest')],
  map_entries: ({ maps: { syscalls_max } }) => ({
    ...sizes('syscalls', syscalls_max),
    ...sizes('syscall_lat', syscalls_max),
  }),
  constants: (options) => ({ syscalls_timed: Number(timed(options)) }),
};
